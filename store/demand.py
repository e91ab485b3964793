"""What requests ask for, as far as it decides what engines load: gateways write it, agents and supervisors read it.

All of it may be lost: then what is loaded stays, and requests ask again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.news import publish_news

MOST_REMEMBERED = 4096
"""Uses that are remembered of each base model's adapters; beyond, those longest ago are forgotten."""
WANTED_FOR_S = 60.0
"""A wish that its gateway did not renew: it was killed."""


@dataclass(frozen=True, slots=True)
class AdapterDemand:
    """Of one base model's adapters: when each was used last, and since when a request waits for it. Unix seconds."""

    used_at: dict[str, float] = field(default_factory=dict)
    wanted_since: dict[str, float] = field(default_factory=dict)


class DemandStore:
    """Every method costs one round trip, and raises RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note_uses(self, cards: Iterable[ModelCard]) -> None:
        """That adapters, and models whose engines start on demand, were asked something just now."""
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, models in _by_set(cards).items():
                pipe.zadd(name, dict.fromkeys(models, now), gt=True)
                pipe.zremrangebyrank(name, 0, -MOST_REMEMBERED - 1)
            await pipe.execute()

    async def want(self, cards: Iterable[ModelCard], *, announce: bool) -> None:
        """That requests wait for adapters that no engine has, or for engines; `announce` where it is news."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for card in cards:
                if card.kind == "adapter" and card.parent is not None:
                    wanted = redis_names.adapters_wanted(card.parent)
                    pipe.zadd(wanted, {card.name: time.time()}, nx=True)
                    pipe.expire(wanted, int(WANTED_FOR_S))
                else:
                    pipe.sadd(redis_names.ENGINE_REQUESTS, card.name)
            await pipe.execute()
        if announce:
            for card in cards:
                await publish_news(self._redis, Invalidation(kind="demand", id=card.name))

    async def forget_wishes(self, cards: Iterable[ModelCard]) -> None:
        """That no request of this gateway waits for these adapters any more."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for card in cards:
                if card.kind == "adapter" and card.parent is not None:
                    pipe.zrem(redis_names.adapters_wanted(card.parent), card.name)
            await pipe.execute()

    async def of_adapters(self, base: str, *, most: int) -> AdapterDemand:
        """The wishes, and the last uses of `most` adapters."""
        wanted = redis_names.adapters_wanted(base)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(wanted, 0, time.time() - WANTED_FOR_S)
            pipe.zrange(wanted, 0, -1, withscores=True)
            pipe.zrevrange(redis_names.adapter_uses(base), 0, most - 1, withscores=True)
            _, wishes, uses = await pipe.execute()
        return AdapterDemand(_by_name(uses), _by_name(wishes))

    async def of_engines(self) -> dict[str, float]:
        """When each model whose engine starts on demand was used last, in Unix seconds."""
        uses: Any = await self._redis.zrange(redis_names.ON_DEMAND_USES, 0, -1, withscores=True)
        return _by_name(uses)


def _by_set(cards: Iterable[ModelCard]) -> dict[str, list[str]]:
    """The cards' names, by the sorted set that remembers them."""
    names: dict[str, list[str]] = {}
    for card in cards:
        adapter_of = card.parent if card.kind == "adapter" else None
        key = redis_names.ON_DEMAND_USES if adapter_of is None else redis_names.adapter_uses(adapter_of)
        names.setdefault(key, []).append(card.name)
    return names


def _by_name(scores: Iterable[tuple[bytes | str, float]]) -> dict[str, float]:
    return {name.decode() if isinstance(name, bytes) else name: score for name, score in scores}
