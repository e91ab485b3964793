"""Engine leases in Redis: agents write them, gateways read them."""

from collections.abc import Sequence

from redis.asyncio import Redis

from contracts.engine import EngineLease
from contracts.invalidation import Invalidation
from store import redis_names
from store.news import publish_news
from store.redis_clients import read_all


class LeaseStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, lease: EngineLease, *, ttl_s: float) -> None:
        """Writes or renews a lease. One round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(redis_names.lease(lease.engine), lease.model_dump_json(), px=int(ttl_s * 1000))
            pipe.sadd(redis_names.ENGINES, lease.engine)
            await pipe.execute()

    async def announce(self, engine: str) -> None:
        """Tells gateways that a lease changed in a way they should see at once."""
        await publish_news(self._redis, Invalidation(kind="engine", id=engine))

    async def remove(self, engine: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(redis_names.lease(engine))
            pipe.srem(redis_names.ENGINES, engine)
            await pipe.execute()
        await self.announce(engine)

    async def alive(self) -> list[EngineLease]:
        """All leases that are alive."""
        return await self.read(sorted(await self.names()))

    async def names(self) -> set[str]:
        """Engines that may have a lease."""
        return {_text(name) for name in await self._redis.smembers(redis_names.ENGINES)}

    async def read(self, names: Sequence[str]) -> list[EngineLease]:
        """The leases of these that are alive. Names of engines that died are cleared on the way."""
        if not names:
            return []
        found = await read_all(self._redis, [redis_names.lease(name) for name in names])
        dead = [name for name, raw in zip(names, found, strict=True) if raw is None]
        if dead:
            await self._redis.srem(redis_names.ENGINES, *dead)
        return [EngineLease.model_validate_json(raw) for raw in found if raw is not None]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
