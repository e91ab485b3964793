"""What this gateway's requests use and wait for, told to those who load adapters and start engines."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from redis.exceptions import RedisError

from contracts.models import ModelCard
from gateway.metrics import Metrics
from store.demand import DemandStore

FLUSH_S = 1.0


class Demand:
    """`note_use` costs a request some 100 nanoseconds; Redis hears of uses once a second, of wishes at once."""

    def __init__(self, store: DemandStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._used: dict[str, ModelCard] = {}
        self._waiting: Counter[str] = Counter()
        self._wanted: dict[str, ModelCard] = {}
        self._no_longer: dict[str, ModelCard] = {}
        self._log = structlog.get_logger(__name__)

    def note_use(self, card: ModelCard) -> None:
        if card.kind == "adapter" or card.on_demand:
            self._used[card.name] = card

    @contextmanager
    def waiting_for(self, card: ModelCard) -> Iterator[None]:
        """While entered, a request waits for the model. Wishes are repeated, so that none is lost."""
        self._waiting[card.name] += 1
        self._wanted[card.name] = card
        try:
            yield
        finally:
            self._waiting[card.name] -= 1
            if not self._waiting[card.name]:
                del self._waiting[card.name], self._wanted[card.name]
                self._no_longer[card.name] = card

    async def tell(self, card: ModelCard) -> bool:
        """That a request began to wait, at once; False while Redis is away."""
        if self._waiting[card.name] > 1 and not card.on_demand:
            return True  # it has been told
        try:
            await self._store.want([card], announce=card.kind == "adapter")
        except RedisError as error:
            self._note_failure(error)
            return False
        return True

    async def run(self) -> None:
        """Tells Redis what there is to tell, once a second until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self._flush()
            except RedisError as error:
                self._note_failure(error)

    async def _flush(self) -> None:
        """While Redis is away uses gather, a card for each model."""
        used, no_longer = dict(self._used), dict(self._no_longer)
        if used:
            await self._store.note_uses(used.values())
            self._forget(self._used, used)
        if no_longer:
            await self._store.forget_wishes(no_longer.values())
            self._forget(self._no_longer, no_longer)
        if self._wanted:
            await self._store.want(list(self._wanted.values()), announce=False)

    @staticmethod
    def _forget(cards: dict[str, ModelCard], told: dict[str, ModelCard]) -> None:
        for name in told:
            cards.pop(name, None)

    def _note_failure(self, error: RedisError) -> None:
        self._metrics.redis_errors.labels("demand").inc()
        self._log.warning("demand not told", reason=type(error).__name__)
