"""The wait for a free place at an engine."""

import asyncio
from dataclasses import dataclass
from types import TracebackType

from contracts.errors import ApiError, EnginesFull, RateLimitExceeded
from contracts.models import ModelCard
from contracts.settings import QueueSettings
from gateway.metrics import Metrics
from gateway.queueing.deadline import NO_DEADLINE, Deadline, exceeded
from gateway.queueing.fair import FairQueue, QueueFull, Ticket
from gateway.routing.fleet import Fleet

FIRST_GUESS_S = 1.0
SMOOTHING = 1 / 8
MOST_TENANTS = 20_000
"""So many are remembered; with one more, those that have no request here are forgotten."""
REFUSALS = ("gateway_full", "tenant_full", "waited_too_long", "deadline")


@dataclass(slots=True)
class TenantUse:
    """What one tenant has of the engines through this gateway.

    Estimates count the longest answer that a request allows, and most answers are much shorter. Charged by them, a
    tenant with few requests would wait for the others to make up for tokens that it never gets. So requests are
    charged by what the tenant lately used of its estimates.
    """

    in_flight: int = 0
    tokens: float = 0.0
    """Prompt and completion tokens of its requests that are done."""
    lately_estimated: float = 1.0
    lately_used: float = 1.0

    def expect(self, estimated_tokens: int) -> float:
        return estimated_tokens * self.lately_used / self.lately_estimated

    def learn(self, estimated_tokens: int, used_tokens: int) -> None:
        self.tokens += used_tokens
        self.lately_estimated += (estimated_tokens - self.lately_estimated) * SMOOTHING
        self.lately_used += (used_tokens - self.lately_used) * SMOOTHING


class EngineQueue:
    """Lets requests through to the engines of their model while these have free places; the others wait for their turn.

    Without waiting a request costs under 2 microseconds and no turn of the event loop. Waiting requests of a base model
    and of its adapters share one fair queue, since they share engines. Gateways queue for themselves; what each of them
    may have of an engine is `gateway.routing.occupancy`'s.
    """

    def __init__(self, fleet: Fleet, settings: QueueSettings, metrics: Metrics) -> None:
        self._fleet = fleet
        self._settings = settings
        self._metrics = metrics
        self._pools: dict[str, _Pool] = {}
        self.tenants: dict[str, TenantUse] = {}
        fleet.listen(self._on_news_of_engines)

    def place(
        self, card: ModelCard, *, tenant: str, tokens: int, priority: int = 0, deadline: Deadline = NO_DEADLINE
    ) -> "Place":
        """A place at an engine, for as long as the context is entered: `async with queue.place(card, …) as place:`.

        `tokens` is an estimate, corrected by `place.used_tokens` where that was set before the place is left.
        `priority` is vLLM's, lower is earlier, and counts among the tenant's own requests only. The context's first
        await must come after an engine was picked, since until then the place is not in any engine's count.

        Raises on entering: EnginesFull (503) where the queue is full or `max_wait_s` is over, RateLimitExceeded (429)
        where it is full of this tenant's requests, DeadlineExceeded (504).
        """
        use = self.tenants.get(tenant)
        if use is None:
            if len(self.tenants) >= MOST_TENANTS:
                self._forget_the_idle()
            use = self.tenants[tenant] = TenantUse()
        return Place(self._pool_of(card), use, card.name, tenant, tokens, priority, deadline)

    def waiting(self) -> dict[str, dict[str, int]]:
        """Requests that wait, by base model and tenant."""
        return {name: pool.queue.waiting() for name, pool in self._pools.items() if pool.queue.length}

    def _pool_of(self, card: ModelCard) -> "_Pool":
        base = card.parent or card.name
        pool = self._pools.get(base)
        if pool is None:
            pool = self._pools[base] = _Pool(base, self._fleet, self._settings, self._metrics)
        return pool

    def _forget_the_idle(self) -> None:
        waiting = {tenant for of_pool in self.waiting().values() for tenant in of_pool}
        self.tenants = {name: use for name, use in self.tenants.items() if use.in_flight or name in waiting}

    def _on_news_of_engines(self) -> None:
        for pool in self._pools.values():
            pool.admit()


class Place:
    """One request's place at an engine, or in the queue for it."""

    __slots__ = ("_cost", "_deadline", "_lane", "_pool", "_priority", "_tenant", "_tokens", "_use", "used_tokens")

    def __init__(
        self,
        pool: "_Pool",
        use: TenantUse,
        lane: str,
        tenant: str,
        tokens: int,
        priority: int,
        deadline: Deadline,
    ) -> None:
        self._pool = pool
        self._use = use
        self._lane = lane
        self._tenant = tenant
        self._tokens = tokens
        self._priority = priority
        self._deadline = deadline
        self._cost = use.expect(tokens)
        self.used_tokens: int | None = None

    async def __aenter__(self) -> "Place":
        pool = self._pool
        if pool.queue.length == 0 and pool.fleet.has_room(self._lane, beside=pool.admitted):
            pool.queue.charge(self._tenant, self._cost)
        else:
            await pool.wait(self._tenant, self._lane, self._cost, self._priority, self._deadline)
        self._use.in_flight += 1
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._use.in_flight -= 1
        if self.used_tokens is not None:
            self._use.learn(self._tokens, self.used_tokens)
            self._pool.queue.settle(self._tenant, self.used_tokens - self._cost)
        if self._pool.queue.length:
            self._pool.admit()


class _Pool:
    """The engines of one base model, and who waits for them.

    `admitted` counts those whose turn has come and whose tasks have not run since; no engine counts them yet.
    """

    def __init__(self, base: str, fleet: Fleet, settings: QueueSettings, metrics: Metrics) -> None:
        self.fleet = fleet
        self.queue: FairQueue[asyncio.Future[None]] = FairQueue(
            max_length=settings.max_length,
            max_length_per_tenant=settings.max_length_per_tenant,
            weights=settings.tenant_weights,
        )
        self.admitted = 0
        self._base = base
        self._max_wait_s = settings.max_wait_s
        self._typical_wait_s = FIRST_GUESS_S
        self._metrics = metrics
        metrics.queue_length.labels(base).set_function(lambda: self.queue.length)
        metrics.queue_wait.labels(base)
        for reason in REFUSALS:
            metrics.queue_refused.labels(base, reason)

    async def wait(self, tenant: str, lane: str, cost: float, priority: int, deadline: Deadline) -> None:
        """Returns when the request's turn has come. A task that is cancelled leaves the queue at once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if deadline.at <= began:
            raise self._too_late(deadline)
        turn: asyncio.Future[None] = loop.create_future()
        ticket = self._enqueue(turn, tenant, lane, cost, priority)
        self.admit()
        timer = loop.call_at(min(began + self._max_wait_s, deadline.at), self._give_up, turn, deadline)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # Its turn had come and its task ends all the same: the turn goes to the next.
                self.admitted -= 1
                self.admit()
            elif ticket.waits:
                self.queue.remove(ticket)
            raise
        finally:
            timer.cancel()
        self.admitted -= 1
        loop.call_soon(self.admit)  # once its engine counts it; for requests that other engines could serve
        waited_s = loop.time() - began
        self._typical_wait_s += (waited_s - self._typical_wait_s) * SMOOTHING
        self._metrics.queue_wait.labels(self._base).observe(waited_s)

    def admit(self) -> None:
        """Gives free places to those whose turn it is."""
        while self.queue.length:
            ticket = self.queue.pop(lambda lane: self.fleet.has_room(lane, beside=self.admitted))
            if ticket is None:
                return
            if not ticket.item.done():  # a task that was cancelled a moment ago has not taken its ticket out yet
                self.admitted += 1
                ticket.item.set_result(None)

    def _enqueue(
        self, turn: asyncio.Future[None], tenant: str, lane: str, cost: float, priority: int
    ) -> Ticket[asyncio.Future[None]]:
        try:
            ticket, *dropped = self.queue.push(turn, tenant=tenant, lane=lane, cost=cost, priority=priority)
        except QueueFull as full:
            raise self._refusal(own_share=full.own_share) from None
        for last in dropped:
            if not last.item.done():
                last.item.set_exception(self._refusal(own_share=True))
        return ticket

    def _give_up(self, turn: asyncio.Future[None], deadline: Deadline) -> None:
        if not turn.done():
            turn.set_exception(self._too_late(deadline))

    def _too_late(self, deadline: Deadline) -> ApiError:
        if deadline.at <= asyncio.get_running_loop().time():
            self._count("deadline")
            return exceeded()
        self._count("waited_too_long")
        message = f"The engines were busy for {self._max_wait_s:g} s. Try again shortly."
        return EnginesFull(message, retry_after_s=self._typical_wait_s)

    def _refusal(self, *, own_share: bool) -> ApiError:
        if own_share:
            self._count("tenant_full")
            message = "Too many of your requests wait for an engine already. Try again shortly."
            return RateLimitExceeded(message, retry_after_s=self._typical_wait_s)
        self._count("gateway_full")
        return EnginesFull(
            "Too many requests wait for an engine. Try again shortly.", retry_after_s=self._typical_wait_s
        )

    def _count(self, reason: str) -> None:
        self._metrics.queue_refused.labels(self._base, reason).inc()
