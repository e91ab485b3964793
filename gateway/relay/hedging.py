"""A second engine is asked where the first is unusually slow to begin (Dean and Barroso, 2013, "The tail at scale")."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence

from contracts.models import ModelCard
from gateway.metrics import Metrics
from gateway.relay.exchange import HeaderList
from gateway.relay.forward import Forwarder, Reply
from gateway.relay.upstream import UpstreamError
from gateway.routing.engine import Engine
from gateway.routing.fleet import Fleet
from gateway.routing.request import RoutingRequest

QUANTILE = 0.95
REMEMBERED = 256
FEWEST = 20
"""Answers of a model below which nothing is known of what is slow."""
SHORTEST_DELAY_S = 0.02

Ask = Callable[[Sequence[Engine]], Coroutine[None, None, Reply]]


class FirstTokenTimes:
    """The latest times to first token of one model."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, time_s: float) -> None:
        self._times_s.append(time_s)

    def slow_s(self) -> float | None:
        """The 95th percentile; None while too little is known."""
        if len(self._times_s) < FEWEST:
            return None
        ordered = sorted(self._times_s)
        return max(SHORTEST_DELAY_S, ordered[int(QUANTILE * (len(ordered) - 1))])


class HedgedForwarder(Forwarder):
    """A forwarder that asks another engine too when a stream's first token is late. The first token wins.

    The loser's work ends at once. The second attempt counts as a retry, so that hedging stays within the retry budget.
    Costs a task a stream, and holds a stream back until its first token has come.
    """

    def __init__(self, fleet: Fleet, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(fleet, metrics)
        self._hedges = metrics.hedges
        self._clock = clock
        self._times: dict[str, FirstTokenTimes] = {}

    async def forward(
        self,
        card: ModelCard,
        routing: RoutingRequest,
        path: str,
        headers: HeaderList,
        body: bytes,
        *,
        broken: Sequence[Engine] = (),
        patiently: bool = True,
    ) -> Reply:
        if broken or not routing.streamed:
            return await super().forward(card, routing, path, headers, body, broken=broken, patiently=patiently)

        async def ask(excluding: Sequence[Engine]) -> Reply:
            forward = super(HedgedForwarder, self).forward
            reply = await forward(card, routing, path, headers, body, broken=excluding, patiently=patiently)
            try:
                await reply.response.wait_for_body()
            except UpstreamError:
                pass  # whoever reads the answer meets it again
            except BaseException:
                reply.end()
                raise
            return reply

        times = self._times.setdefault(card.name, FirstTokenTimes())
        began = self._clock()
        reply = await self._race(ask, routing, times.slow_s())
        times.note(self._clock() - began)
        return reply

    async def _race(self, ask: Ask, routing: RoutingRequest, delay_s: float | None) -> Reply:
        attempts: list[asyncio.Future[Reply]] = [asyncio.ensure_future(ask(()))]
        winner: asyncio.Future[Reply] | None = None
        try:
            await asyncio.wait(attempts, timeout=delay_s)
            if not attempts[0].done() and routing.engine is not None and self._may_retry():
                self._hedges.labels("begun").inc()
                attempts.append(asyncio.ensure_future(ask((routing.engine,))))
            winner = await _first_to_succeed(attempts)
            if winner is not attempts[0]:
                self._hedges.labels("won").inc()
            return winner.result()
        finally:
            for attempt in attempts:
                if attempt is not winner:
                    attempt.cancel()
                    attempt.add_done_callback(_end)


async def _first_to_succeed(attempts: list[asyncio.Future[Reply]]) -> asyncio.Future[Reply]:
    """The first that has a reply; where all fail, the first of all."""
    pending = set(attempts)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for attempt in attempts:
            if attempt in done and attempt.exception() is None:
                return attempt
    return attempts[0]


def _end(attempt: asyncio.Future[Reply]) -> None:
    """Ends a reply that came too late to be cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().end()
