"""Starts engines that requests wait for."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import redis_names

POLL_S = 0.5


async def follow_engine_requests(redis: Redis, start_engine: Callable[[str], Awaitable[None]]) -> None:
    """Takes the models that gateways ask for and hands each to `start_engine`, until cancelled."""
    log = structlog.get_logger(__name__)
    while True:
        try:
            asked = await redis.spop(redis_names.ENGINE_REQUESTS)
        except RedisError as error:
            log.warning("engine requests not read", reason=type(error).__name__)
            asked = None
        if asked is None:
            await asyncio.sleep(POLL_S)
            continue
        await start_engine(asked.decode() if isinstance(asked, bytes) else str(asked))
