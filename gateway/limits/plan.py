"""What the limit scripts must be told of a key, worked out once for as long as the key is cached."""

import struct
from dataclasses import dataclass

from contracts.keys import ApiKey
from contracts.limits import Limits
from contracts.settings import LimitSettings
from store import redis_names

UNLIMITED = 10**15
"""Stands for the rate that a tenant does not limit where it limits the other."""
NANOS = 10**9
MAX_PLANS = 10_000
PERMIT_S = 0.5
"""How long a permit that was taken ahead of its request is good."""
PERMIT_REQUESTS, PERMIT_TOKENS = 6000, 600_000
"""A minute; from these rates on, permits are a small part of what a bucket holds."""


@dataclass(frozen=True, slots=True)
class Rates:
    requests_per_minute: int
    tokens_per_minute: int

    @property
    def lends(self) -> bool:
        """Whether permits may be taken ahead of the requests (gateway/limits/permits.py)."""
        return self.requests_per_minute >= PERMIT_REQUESTS and self.tokens_per_minute >= PERMIT_TOKENS

    @property
    def burst(self) -> float:
        """What the buckets hold when they are full, in minutes' worths: less by what may flow in before a permit
        that was taken is used."""
        return 1 - PERMIT_S / 60 if self.lends else 1.0


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """`names` and `packed` are the scripts' KEYS and ARGV[1], `rates` the first 48 bytes of the latter."""

    key: ApiKey
    key_rates: Rates
    tenant_rates: Rates | None
    names: tuple[str, ...]
    lease_names: tuple[str, ...]
    packed: bytes
    rates: bytes
    spends_money: bool
    settles_always: bool
    lends: bool


class LimitPlans:
    """The plans of the keys seen lately. A look-up costs a fraction of a microsecond."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._plans: dict[str, LimitPlan] = {}

    def of(self, key: ApiKey) -> LimitPlan:
        plan = self._plans.get(key.id)
        if plan is None or plan.key is not key:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key.id] = _plan(key, self._settings)
        return plan


def _plan(key: ApiKey, settings: LimitSettings) -> LimitPlan:
    tenant = key.tenant_limits
    key_rates = Rates(
        key.requests_per_minute or settings.requests_per_minute, key.tokens_per_minute or settings.tokens_per_minute
    )
    tenant_rates = None
    if tenant.requests_per_minute or tenant.tokens_per_minute:
        tenant_rates = Rates(tenant.requests_per_minute or UNLIMITED, tenant.tokens_per_minute or UNLIMITED)
    owners: tuple[tuple[str, Limits], ...] = ((key.id, key), ("", tenant))
    lease_names = [redis_names.concurrency_leases(key.tenant, name) for name, limits in owners if limits.concurrency]
    budget_names = [redis_names.budgets(key.tenant, name) for name, limits in owners if any(_budgets(limits))]
    bucket_names = [redis_names.buckets(key.tenant, key.id)]
    if tenant_rates is not None:
        bucket_names.append(redis_names.buckets(key.tenant))
    rates = _packed(key_rates) + _packed(tenant_rates)
    rest = struct.pack(
        "<11d",
        round(settings.concurrency_lease_s * 1000),
        key.concurrency or 0,
        tenant.concurrency or 0,
        *_budgets(key),
        *_budgets(tenant),
    )
    return LimitPlan(
        key=key,
        key_rates=key_rates,
        tenant_rates=tenant_rates,
        names=(*bucket_names, *lease_names, *budget_names),
        lease_names=tuple(lease_names),
        packed=rates + rest if lease_names or budget_names else rates,
        rates=rates,
        spends_money=any((key.money_per_day, key.money_per_month, tenant.money_per_day, tenant.money_per_month)),
        settles_always=bool(lease_names or budget_names),
        lends=key_rates.lends and (tenant_rates is None or tenant_rates.lends) and not (lease_names or budget_names),
    )


def _packed(rates: Rates | None) -> bytes:
    if rates is None:
        return struct.pack("<3d", 0, 0, 0)
    return struct.pack("<3d", rates.requests_per_minute, rates.tokens_per_minute, rates.burst)


def _budgets(limits: Limits) -> tuple[int, int, int, int]:
    return (
        limits.tokens_per_day or 0,
        round((limits.money_per_day or 0) * NANOS),
        limits.tokens_per_month or 0,
        round((limits.money_per_month or 0) * NANOS),
    )
