"""Answers kept in Redis: the bytes that the client got, so that a stream is replayed as a stream."""

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.settings import CacheSettings
from gateway.metrics import Metrics
from store import redis_names


class KeptAnswer(msgspec.Struct, frozen=True):
    content_type: bytes
    body: bytes


class AnswerCache:
    def __init__(self, redis: Redis, settings: CacheSettings, metrics: Metrics) -> None:
        self._redis = redis
        self._settings = settings
        self._metrics = metrics
        self._log = structlog.get_logger(__name__)

    @property
    def enabled(self) -> bool:
        return self._settings.enabled

    @property
    def max_entry_bytes(self) -> int:
        return self._settings.max_entry_bytes

    async def keep(self, tenant: str, digest: str, answer: KeptAnswer) -> None:
        """Keeps an answer for `ttl_s`. One round trip; a failure is counted and otherwise ignored."""
        name = redis_names.cached_answer(tenant, digest)
        try:
            await self._redis.set(name, msgspec.msgpack.encode(answer), ex=self._settings.ttl_s)
        except RedisError as error:
            self._metrics.redis_errors.labels("cache").inc()
            self._log.warning("answer not kept", reason=type(error).__name__)

    @staticmethod
    def decode(raw: bytes) -> KeptAnswer:
        return msgspec.msgpack.decode(raw, type=KeptAnswer)
