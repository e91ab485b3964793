"""The engines that are alive, by their leases in Redis, and the choice among them."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from redis.exceptions import RedisError

from contracts.errors import NoEngineAvailable
from contracts.models import ModelCard
from contracts.settings import GatewaySettings
from gateway.metrics import Metrics
from gateway.relay.upstream import Upstream
from gateway.routing.acquaintances import Acquaintances
from gateway.routing.demand import Demand
from gateway.routing.engine import Engine
from gateway.routing.health import fit_among, probe_among
from gateway.routing.policies.base import Policy
from gateway.routing.request import RoutingRequest

ADAPTER_LOAD_WAIT_S = 30.0
RETRY_AFTER_S = 5.0


class Fleet:
    """Picks an engine for each request. Costs no round trip: leases are read in the background.

    While Redis is away the last leases stay in use, and failed attempts tell which engines are gone.
    """

    def __init__(
        self,
        acquaintances: Acquaintances,
        demand: Demand,
        settings: GatewaySettings,
        metrics: Metrics,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._acquaintances = acquaintances
        self._demand = demand
        self._settings = settings
        self._metrics = metrics
        self._policy = policy
        self._clock = clock
        self._engines: dict[str, Engine] = {}
        self._look_now = asyncio.Event()
        self._updated = asyncio.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._log = structlog.get_logger(__name__)
        metrics.in_flight.set_function(self.in_flight)

    def engines_by_model(self) -> dict[str, list[str]]:
        """Of each model and adapter that is served now: the engines that have it."""
        found: dict[str, list[str]] = {}
        for engine in self._engines.values():
            for name in (engine.lease.model, *engine.lease.adapters):
                found.setdefault(name, []).append(engine.lease.engine)
        return found

    def size(self) -> int:
        return len(self._engines)

    def in_flight(self) -> int:
        return sum(engine.in_flight for engine in self._engines.values())

    def serving(self, model: str) -> list[Engine]:
        """The engines that have the model and take new requests."""
        return [engine for engine in self._engines.values() if engine.lease.serves(model) and not engine.lease.draining]

    def has_room(self, model: str, *, beside: int = 0) -> bool:
        """Whether an engine takes a request of this model now, beside so many that are on their way to engines.

        True also where no engine serves the model: then there is no place to wait for.
        """
        for engine in self._engines.values():  # nearly always one engine's room is enough
            lease = engine.lease
            if engine.occupancy.free() > beside and engine.health.fit and not lease.draining and lease.serves(model):
                return True
        serving = self.serving(model)
        room = -beside
        for engine in fit_among(serving):
            room += max(0, engine.occupancy.free())
            if room > 0:
                return True
        return not serving

    def engines(self) -> list[Engine]:
        return list(self._engines.values())

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after every look at the leases."""
        self._listeners.append(listener)

    def pick(self, request: RoutingRequest, *, excluding: Sequence[Engine] = ()) -> Engine | None:
        """The engine to ask; None where none is left. The policy is asked where several are fit and have room.

        A retry is never an ejected engine's probe.
        """
        request.engine = self._choose(request, excluding)
        return request.engine

    def _choose(self, request: RoutingRequest, excluding: Sequence[Engine]) -> Engine | None:
        candidates: Sequence[Engine] = self.serving(request.model)
        if excluding:
            candidates = [engine for engine in candidates if engine not in excluding]
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        if not excluding and (probe := probe_among(candidates)) is not None:
            return probe
        fit = fit_among(candidates)
        with_room = [engine for engine in fit if engine.occupancy.free() > 0] or fit
        return with_room[0] if len(with_room) == 1 else self._policy.choose(with_room, request)

    async def wait_for(self, card: ModelCard, request: RoutingRequest, *, patiently: bool = True) -> Engine:
        """Waits for an engine where one can be expected: it starts on demand, or one of the base loads the adapter.

        Raises NoEngineAvailable, at once where nothing can be expected or, unless `patiently`, is there now.
        """
        try:
            with self._demand.waiting_for(card):
                wait_s = await self._expected_wait_s(card)
                async with asyncio.timeout(wait_s if patiently else 0), self._updated:
                    await self._updated.wait_for(lambda: self.serving(card.name))
        except TimeoutError:
            message = f"No engine serves the model `{card.name}` at the moment."
            raise NoEngineAvailable(message, retry_after_s=RETRY_AFTER_S) from None
        engine = self.pick(request)
        assert engine is not None
        return engine

    async def _expected_wait_s(self, card: ModelCard) -> float:
        if card.kind == "adapter" and card.parent is not None and self.serving(card.parent):
            await self._demand.tell(card)
            return ADAPTER_LOAD_WAIT_S
        if card.on_demand:
            return self._settings.engine_start_wait_s if await self._demand.tell(card) else 0
        return 0

    def note_use(self, card: ModelCard) -> None:
        """That an engine is asked something for this model."""
        self._demand.note_use(card)

    def note_lost(self, engine: Engine, card: ModelCard) -> None:
        """That an engine has the adapter no longer, whatever its lease said."""
        engine.lose(card.name)
        self.look_soon()

    def look_soon(self) -> None:
        self._look_now.set()

    async def run(self) -> None:
        """Follows the leases until cancelled."""
        while True:
            self._look_now.clear()
            try:
                await self.refresh()
            except RedisError as error:
                self._metrics.redis_errors.labels("leases").inc()
                self._log.warning("leases not refreshed", reason=type(error).__name__)
            try:
                async with asyncio.timeout(self._settings.lease_refresh_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        leases = await self._acquaintances.leases()
        names = {lease.engine for lease in leases}
        for gone in self._engines.keys() - names:
            self._engines.pop(gone).upstream.close_idle()  # running answers keep theirs to the end
        for lease in leases:
            if (engine := self._engines.get(lease.engine)) is not None and engine.lease.url == lease.url:
                engine.renew(lease)
            else:
                engine = self._engines[lease.engine] = Engine(lease, self._connect(lease.url), self._clock)
                engine.renew(lease)
        self._count_engines()
        for listener in self._listeners:
            listener()
        async with self._updated:
            self._updated.notify_all()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.upstream.close()

    def _connect(self, url: str) -> Upstream:
        return Upstream(
            url,
            connect_timeout_s=self._settings.connect_timeout_s,
            idle_timeout_s=self._settings.idle_timeout_s,
            max_connections=self._settings.connections_per_engine,
        )

    def _count_engines(self) -> None:
        self._metrics.engines.clear()
        self._metrics.ejected_engines.set(sum(not engine.health.fit for engine in self._engines.values()))
        for engine in self._engines.values():
            self._metrics.engines.labels(engine.lease.model).inc()
            self._metrics.engine_failures.labels(engine.lease.model)
