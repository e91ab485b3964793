"""What Redis holds of a tenant: its answers, how they were used, its limits' state."""

from collections.abc import Iterable
from typing import Any

from redis import Redis

from contracts.models import ModelCard
from store import redis_names

SCANNED_AT_ONCE = 1000
EPOCH_TTL_S = 86_400
"""As gateway/cache/scripts/clear.lua has it: longer than any generation."""


def forget_tenant(redis: Redis, tenant: str) -> int:
    """Deletes every name that carries the tenant. What is being generated is not kept any more. Raises RedisError."""
    epoch = redis_names.cache_epoch(tenant)
    redis.incr(epoch)
    redis.expire(epoch, EPOCH_TTL_S)
    forgotten = 0
    for name in redis.scan_iter(match=redis_names.tagged(tenant), count=SCANNED_AT_ONCE):
        if name != epoch.encode():
            forgotten += redis.unlink(name)
    return forgotten


def forget_models(redis: Redis, cards: Iterable[ModelCard]) -> None:
    """When they were used or asked for. Raises RedisError."""
    for card in cards:
        redis.zrem(redis_names.ON_DEMAND_USES, card.name)
        redis.srem(redis_names.ENGINE_REQUESTS, card.name)
        if card.parent is not None:
            redis.zrem(redis_names.adapter_uses(card.parent), card.name)
            redis.zrem(redis_names.adapters_wanted(card.parent), card.name)


def forget_releases(redis: Redis, releases: Iterable[str]) -> None:
    """What gateways counted of them. Raises RedisError."""
    for release in releases:
        names: list[Any] = list(redis.scan_iter(match=redis_names.tagged(release), count=SCANNED_AT_ONCE))
        if names:
            redis.unlink(*names)
