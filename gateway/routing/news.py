"""Listens for news of changes, so that what this process caches is forgotten in milliseconds."""

import asyncio

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.invalidation import Invalidation
from gateway.auth.keys import Authenticator
from gateway.routing.fleet import Fleet
from gateway.routing.models import ModelDirectory
from store import redis_names

RECONNECT_S = 0.5


class NewsListener:
    def __init__(self, redis: Redis, authenticator: Authenticator, models: ModelDirectory, fleet: Fleet) -> None:
        self._redis = redis
        self._authenticator = authenticator
        self._models = models
        self._fleet = fleet
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Listens until cancelled. After a lost connection all is looked up anew, since news may have been missed."""
        while True:
            try:
                await self._listen()
            except RedisError as error:
                self._log.warning("news interrupted", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(redis_names.INVALIDATIONS)
            self._authenticator.forget()
            self._models.refresh_soon()
            self._fleet.look_soon()
            async for message in subscription.listen():
                self._act_on(message["data"])

    def _act_on(self, raw: bytes) -> None:
        try:
            news = Invalidation.model_validate_json(raw)
        except ValidationError:
            self._log.warning("news not understood")
            return
        match news.kind:
            case "key":
                self._authenticator.forget()
            case "model":
                self._models.refresh_soon()
            case "engine":
                self._fleet.look_soon()
