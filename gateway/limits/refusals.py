"""What a client hears when a limit refuses its request."""

from datetime import UTC, datetime, timedelta
from enum import IntEnum

from contracts.errors import InsufficientQuota, RateLimitExceeded
from contracts.limits import Limits
from gateway.limits.headers import HeaderList
from gateway.limits.plan import LimitPlan

CONCURRENCY_RETRY_S = 1.0


class Limit(IntEnum):
    """The limits of a key, as admit.lua numbers them; those of its tenant follow, seven on."""

    REQUESTS = 1
    TOKENS = 2
    CONCURRENCY = 3
    TOKENS_PER_DAY = 4
    MONEY_PER_DAY = 5
    TOKENS_PER_MONTH = 6
    MONEY_PER_MONTH = 7


class LimitReached(RateLimitExceeded):
    """The answer tells in OpenAI's headers how the key stands."""

    def __init__(self, message: str, *, standing: HeaderList, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self._standing = standing

    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self._standing} | super().headers()


class BudgetUsedUp(LimitReached, InsufficientQuota):
    """Not enough is left of a budget for what the request may use."""


def refusal(number: int, plan: LimitPlan, *, wait_ms: float, now_ms: int, standing: HeaderList) -> LimitReached:
    """The error for the limit that admit.lua names by its number. Times are by Redis' clock."""
    owner, limit = ("key", Limit(number)) if number <= len(Limit) else ("tenant", Limit(number - len(Limit)))
    limits: Limits = plan.key if owner == "key" else plan.key.tenant_limits
    if limit in (Limit.REQUESTS, Limit.TOKENS):
        rates = plan.tenant_rates if owner == "tenant" and plan.tenant_rates is not None else plan.key_rates
        told = (
            f"{rates.requests_per_minute} requests per minute"
            if limit is Limit.REQUESTS
            else f"{rates.tokens_per_minute} tokens per minute"
        )
        return LimitReached(
            f"Rate limit of the {owner} reached: {told}. Try again in {wait_ms / 1000:.1f} s.",
            standing=standing,
            retry_after_s=wait_ms / 1000,
        )
    if limit is Limit.CONCURRENCY:
        return LimitReached(
            f"Rate limit of the {owner} reached: {limits.concurrency} requests at a time.",
            standing=standing,
            retry_after_s=CONCURRENCY_RETRY_S,
        )
    budget, period = {
        Limit.TOKENS_PER_DAY: (f"{limits.tokens_per_day} tokens", "day"),
        Limit.MONEY_PER_DAY: (f"{limits.money_per_day:g}" if limits.money_per_day else "", "day"),
        Limit.TOKENS_PER_MONTH: (f"{limits.tokens_per_month} tokens", "month"),
        Limit.MONEY_PER_MONTH: (f"{limits.money_per_month:g}" if limits.money_per_month else "", "month"),
    }[limit]
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    begins = _next(period, now)
    return BudgetUsedUp(
        f"The budget of the {owner}, {budget} a {period}, leaves too little for what this request may use. "
        f"It starts anew at {begins:%Y-%m-%d %H:%M} UTC.",
        standing=standing,
        retry_after_s=(begins - now).total_seconds(),
    )


def _next(period: str, now: datetime) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
