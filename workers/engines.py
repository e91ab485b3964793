"""The engines that run, for jobs that ask models something."""

import asyncio

from redis.exceptions import RedisError

from contracts.engine import EngineLease
from contracts.models import ModelCard
from store.demand import DemandStore
from store.leases import LeaseStore
from store.redis_clients import async_redis

TIMEOUT_S = 2.0


class Engines:
    """Jobs ask engines directly: no key, no tenant's limits and no cache are involved. Synchronous."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    def serving(self, card: ModelCard) -> list[EngineLease]:
        """Those that serve the model now. It counts as used, and where none serves it as asked for.

        A connection and two round trips. None also while Redis is away.
        """
        try:
            return asyncio.run(self._serving(card))
        except RedisError:
            return []

    async def _serving(self, card: ModelCard) -> list[EngineLease]:
        async with async_redis(self._redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as redis:
            leases = [lease for lease in await LeaseStore(redis).alive() if lease.serves(card.name)]
            ready = [lease for lease in leases if not lease.draining]
            demand = DemandStore(redis)
            if ready:
                await demand.note_uses([card])
            else:
                await demand.want([card], announce=True)
            return ready
