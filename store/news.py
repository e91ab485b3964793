"""News of changes: every process that caches something hears within milliseconds that it is no longer true."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.invalidation import Invalidation
from store import redis_names
from store.redis_clients import listen

RECONNECT_S = 0.5

log = structlog.get_logger(__name__)


async def follow_news(redis: Redis) -> AsyncIterator[Invalidation | None]:
    """Yields news for ever. None means that news may have been missed: at the start and after a lost connection."""
    while True:
        try:
            async for message in listen(redis, redis_names.INVALIDATIONS):
                if message is None:
                    yield None
                elif (news := _parse(message)) is not None:
                    yield news
        except RedisError as error:
            log.warning("news interrupted", reason=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)


async def publish_news(redis: Redis, news: Invalidation) -> None:
    await redis.publish(redis_names.INVALIDATIONS, news.model_dump_json())


def _parse(raw: bytes) -> Invalidation | None:
    try:
        return Invalidation.model_validate_json(raw)
    except ValidationError:
        log.warning("news not understood")
        return None
