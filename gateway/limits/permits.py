"""Permits that are taken from a key's buckets ahead of its requests, so that these need not wait for Redis.

Only for keys of high rates without budgets and limits of concurrency (`LimitPlan.lends`), and only for as many requests
as came lately. A permit is good for `PERMIT_S` from before it was taken, and the buckets hold less by what flows in
during that time; so whatever goes through in a window of `w` seconds was taken in one of `w + PERMIT_S`, and the bound
of `gateway/limits/__init__.py` holds as it stands (docs/decisions/016-permits.md).
"""

import asyncio
import math
import struct
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from gateway.limits.plan import MAX_PLANS, PERMIT_S, LimitPlan
from gateway.redis_pipe import Script

LOOKED_AFTER_S = PERMIT_S / 5
"""The least time over which the pace of requests is told."""
FEWEST = 4
"""Requests expected within `PERMIT_S`; below that, taking permits would cost as much as it saves."""
SETTLED_AFTER_S = 0.05


class Permits:
    """What was taken together: `requests` and `tokens` are left of it, `beside` in the buckets."""

    __slots__ = ("beside", "good_until", "plan", "requests", "reserved", "taken_ms", "tokens", "used")

    def __init__(
        self, plan: LimitPlan, requests: int, tokens: int, *, taken_ms: int, good_until: float, beside: list[int]
    ) -> None:
        self.plan = plan
        self.requests = requests
        self.tokens = tokens
        self.taken_ms = taken_ms
        self.good_until = good_until
        self.beside = beside
        self.reserved = self.used = 0
        """Tokens of requests that have ended and are not settled yet."""

    @property
    def standing(self) -> tuple[int, int, int, int]:
        """Requests and tokens left of the key and of the tenant, with what is left here."""
        requests, tokens, tenant_requests, tenant_tokens = self.beside
        here, here_tokens = self.requests, self.tokens
        return requests + here, tokens + here_tokens, tenant_requests + here, tenant_tokens + here_tokens


class _Demand:
    """How fast requests of a key come, and the permits held for it."""

    __slots__ = ("asking", "held", "looked_at", "plan", "requests", "tokens")

    def __init__(self, plan: LimitPlan, now: float) -> None:
        self.plan = plan
        self.held: deque[Permits] = deque()
        self.asking = False
        self.looked_at = now
        self.requests = self.tokens = 0
        """From `looked_at` on."""

    def wants(self, now: float) -> tuple[int, int] | None:
        """Requests and tokens to take for the next `PERMIT_S`, if what is held will not last for half of it."""
        past_s, requests, tokens = now - self.looked_at, self.requests, self.tokens
        self.looked_at, self.requests, self.tokens = now, 0, 0
        a_second = requests / past_s
        expected = math.ceil(a_second * PERMIT_S)
        if past_s > PERMIT_S or expected < FEWEST:
            return None
        usable = sum(min(permits.requests, a_second * (permits.good_until - now)) for permits in self.held)
        wanted = math.ceil(expected - usable)
        return (wanted, math.ceil(tokens / requests * wanted)) if wanted > expected / 2 else None


class PermitBook:
    """The permits of one gateway."""

    def __init__(self, lease: Script, settle: Script, *, failed: Callable[[BaseException], None]) -> None:
        self._lease = lease
        self._settle = settle
        self._failed = failed
        self._demands: dict[str, _Demand] = {}
        self._ended: dict[int, Permits] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def take(self, plan: LimitPlan, tokens: int) -> Permits | None:
        """Where one of these covers a request of so many tokens, it is used up; None: ask Redis."""
        now = time.monotonic()
        demand = self._demands.get(plan.key.id)
        if demand is None or demand.plan is not plan:
            demand = self._begin(demand, plan, now)
        held = demand.held
        self._drop_used(held, now)
        if not demand.asking and now - demand.looked_at >= LOOKED_AFTER_S:
            self._ask(demand, now)
        demand.requests += 1
        demand.tokens += tokens
        for permits in held:
            if permits.requests and permits.tokens >= tokens:
                permits.requests -= 1
                permits.tokens -= tokens
                return permits
        return None

    def settle(self, permits: Permits, *, reserved: int, used: int) -> None:
        """Many requests are settled by one call."""
        if not self._ended:
            asyncio.get_running_loop().call_later(SETTLED_AFTER_S, self.flush)
        permits.reserved += reserved
        permits.used += used
        self._ended[id(permits)] = permits

    def flush(self) -> None:
        """Settles what has ended."""
        ended, self._ended = self._ended, {}
        for permits in ended.values():
            self._send(permits)

    def close(self) -> None:
        """Gives all permits back."""
        for call in self._calls:
            call.cancel()
        for demand in self._demands.values():
            self._give_all_back(demand.held)
        self._demands.clear()
        self.flush()

    def _begin(self, before: _Demand | None, plan: LimitPlan, now: float) -> _Demand:
        if before is not None:  # the key has other limits now
            self._give_all_back(before.held)
        elif len(self._demands) >= MAX_PLANS:
            self.close()
        demand = self._demands[plan.key.id] = _Demand(plan, now)
        return demand

    def _ask(self, demand: _Demand, now: float) -> None:
        wanted = demand.wants(now)
        if wanted is None:
            return
        demand.asking = True
        call = asyncio.get_running_loop().create_task(self._fetch(demand, *wanted))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _fetch(self, demand: _Demand, requests: int, tokens: int) -> None:
        plan, asked_at = demand.plan, time.monotonic()
        try:
            given, taken_ms, *beside = await self._lease(plan.names, (plan.rates, requests, tokens))
        except RedisError as error:
            self._failed(error)
            return
        finally:
            demand.asking = False
        if given:
            good_until = asked_at + PERMIT_S
            permits = Permits(plan, requests, tokens, taken_ms=taken_ms, good_until=good_until, beside=beside)
            demand.held.append(permits)
            asyncio.get_running_loop().call_later(PERMIT_S, self._drop_used, demand.held)

    def _drop_used(self, held: deque[Permits], now: float | None = None) -> None:
        now = now or time.monotonic()
        while held and (held[0].good_until <= now or held[0].requests == 0):
            self._give_back(held.popleft())

    def _give_all_back(self, held: deque[Permits]) -> None:
        while held:
            self._give_back(held.popleft())

    def _give_back(self, permits: Permits) -> None:
        """The tokens. Requests that were expected and did not come are lost to the key."""
        if permits.tokens:
            self.settle(permits, reserved=permits.tokens, used=0)
            permits.tokens = 0

    def _send(self, permits: Permits) -> None:
        plan, reserved, used = permits.plan, permits.reserved, permits.used
        permits.reserved = permits.used = 0
        if reserved != used:
            amounts = struct.pack("<6d", reserved, used, 0, 0, permits.taken_ms, 0)
            self._settle.send(plan.names, (plan.rates, amounts, b""), self._failed)
