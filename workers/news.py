"""Tells who watches a job that it has something to tell, without the job waiting for Redis."""

import threading

import structlog
from redis import Redis
from redis.exceptions import RedisError

from contracts.invalidation import Invalidation
from store import redis_names
from store.redis_clients import blocking_redis

TIMEOUT_S = 1.0
CLOSE_S = 2.0
PAUSE_S = 0.1
"""At most ten messages a second, however fast a job tells."""

log = structlog.get_logger(__name__)


class NewsThread:
    """`publish` costs nothing; a thread sends. News that Redis does not take is lost: watchers look by themselves."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._redis: Redis | None = None
        self._pending: set[Invalidation] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._send_all, name="news", daemon=True)
        self._thread.start()

    def publish(self, news: Invalidation) -> None:
        with self._changed:
            self._pending.add(news)
            self._changed.notify()

    def close(self) -> None:
        """Sends what is pending, if Redis takes it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_S)

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
                pending, self._pending = self._pending, set()
            if not pending:
                return
            try:
                if self._redis is None:
                    self._redis = blocking_redis(
                        self._redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
                    )
                for news in pending:
                    self._redis.publish(redis_names.INVALIDATIONS, news.model_dump_json())
            except RedisError as error:
                log.warning("news not published", reason=type(error).__name__)
            threading.Event().wait(PAUSE_S)
