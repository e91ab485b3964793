"""The limits that one gateway keeps by itself while Redis is away."""

import time
from dataclasses import dataclass

from contracts.limits import Limits
from gateway.limits.plan import LimitPlan, Rates
from gateway.limits.refusals import Limit

MINUTE_S = 60.0
Reply = tuple[int, float, int, int, int, int, int]
"""As admit.lua's, without the kept answer."""


@dataclass(slots=True)
class _Buckets:
    requests: float
    tokens: float
    at_s: float


class LocalLimits:
    """Token buckets and counts of requests in flight in this process, full and empty at the start. No budgets.

    Several gateways admit together at most as many times the limits as they are.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, _Buckets] = {}
        self._in_flight: dict[str, int] = {}

    def admit(self, plan: LimitPlan, tokens: int) -> Reply:
        """A few microseconds, no round trip. A request that is refused takes nothing."""
        owners = _owners(plan)
        buckets = [self._refilled(name, rates) for _, name, rates in owners]
        left = [number for each in buckets for number in (int(each.requests), int(each.tokens))]
        refused_by, wait_ms = self._refusal(plan, buckets, tokens)
        if refused_by == 0:
            for each, (_, _, rates) in zip(buckets, owners, strict=True):
                each.requests -= 1
                each.tokens -= min(tokens, rates.tokens_per_minute)
            left = [number for each in buckets for number in (int(each.requests), int(each.tokens))]
            for name in plan.lease_names if tokens else ():
                self._in_flight[name] = self._in_flight.get(name, 0) + 1
        key_requests, key_tokens, tenant_requests, tenant_tokens = (*left, 0, 0)[:4]
        now_ms = int(time.time() * 1000)
        return refused_by, wait_ms, now_ms, key_requests, key_tokens, tenant_requests, tenant_tokens

    def settle(self, plan: LimitPlan, *, reserved: int, used: int) -> None:
        for _, name, rates in _owners(plan):
            bucket = self._refilled(name, rates)
            limit = rates.tokens_per_minute
            bucket.tokens = min(limit, bucket.tokens + min(reserved, limit) - used)
        for name in plan.lease_names if reserved else ():
            self._in_flight[name] -= 1

    def _refusal(self, plan: LimitPlan, buckets: list[_Buckets], tokens: int) -> tuple[int, float]:
        """The number of the limit, and the milliseconds until its bucket has room."""
        for (first, _, rates), bucket in zip(_owners(plan), buckets, strict=True):
            cost = min(tokens, rates.tokens_per_minute)
            if bucket.requests < 1:
                return first + Limit.REQUESTS, (1 - bucket.requests) * MINUTE_S * 1000 / rates.requests_per_minute
            if bucket.tokens < cost:
                return first + Limit.TOKENS, (cost - bucket.tokens) * MINUTE_S * 1000 / rates.tokens_per_minute
        if tokens:
            limits: list[tuple[int, Limits]] = [(0, plan.key), (len(Limit), plan.key.tenant_limits)]
            limited = [(first, each.concurrency) for first, each in limits if each.concurrency]
            for (first, concurrency), name in zip(limited, plan.lease_names, strict=True):
                if self._in_flight.get(name, 0) >= concurrency:
                    return first + Limit.CONCURRENCY, 0.0
        return 0, 0.0

    def _refilled(self, name: str, rates: Rates) -> _Buckets:
        now_s = time.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = _Buckets(rates.requests_per_minute, rates.tokens_per_minute, now_s)
            self._buckets[name] = bucket
        minutes = (now_s - bucket.at_s) / MINUTE_S
        bucket.requests = min(rates.requests_per_minute, bucket.requests + minutes * rates.requests_per_minute)
        bucket.tokens = min(rates.tokens_per_minute, bucket.tokens + minutes * rates.tokens_per_minute)
        bucket.at_s = now_s
        return bucket


def _owners(plan: LimitPlan) -> list[tuple[int, str, Rates]]:
    """The key, and the tenant where it has rates: what to add to a limit's number, the bucket's name, its rates."""
    owners = [(0, plan.names[0], plan.key_rates)]
    if plan.tenant_rates is not None:
        owners.append((len(Limit), plan.names[1], plan.tenant_rates))
    return owners
