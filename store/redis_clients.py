"""The clients of Redis, be it one server or a cluster (contracts/redis_urls.py). The only place that makes them.

Of a cluster's client Flywheel uses only what it has in common with one server's, so both pass as redis-py's `Redis`:
commands with one name, and pipelines that are no transactions, whose commands run side by side where several servers
have their names. The gateway's data path has a client of its own (gateway/redis_pipe.py).
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.cluster import ClusterPipeline as AsyncClusterPipeline
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from contracts.redis_urls import is_cluster, server_urls

RETRIES = 1
"""Of a command whose server is gone, after a look which server has its place."""


def async_redis(url: str, **options: Any) -> AsyncRedis:
    """`options` are redis-py's of a connection. It connects at the first command."""
    client = AsyncRedis.from_url(url, **options) if not is_cluster(url) else _cluster(_AsyncCluster, url, options)
    return cast(AsyncRedis, client)


def blocking_redis(url: str, **options: Any) -> Redis:
    """`options` are redis-py's of a connection. Raises RedisError where it is a cluster that cannot be reached."""
    client = Redis.from_url(url, **options) if not is_cluster(url) else _cluster(_BlockingCluster, url, options)
    return cast(Redis, client)


async def read_all(redis: AsyncRedis, names: Sequence[str]) -> list[bytes | None]:
    """The values of names that may lie on several servers. One round trip."""
    client: Any = redis
    if not isinstance(client, _AsyncCluster):
        return cast(list[bytes | None], await client.mget(names))
    async with client.pipeline() as pipe:
        for name in names:
            pipe.get(name)
        return await pipe.execute()


async def listen(redis: AsyncRedis, channel: str) -> AsyncIterator[bytes | None]:
    """The channel's messages, after a None once it is subscribed to. Raises RedisError.

    A cluster's servers all hear every message, so any of them will do, and the next call asks another one.
    """
    client: Any = redis
    options = {"node": await client.some_server()} if isinstance(client, _AsyncCluster) else {}
    async with client.pubsub(ignore_subscribe_messages=True, **options) as subscription:
        await subscription.subscribe(channel)
        yield None
        async for message in subscription.listen():
            yield message["data"]


class _AsyncCluster(AsyncRedisCluster):
    """Like a client of one server it connects at the first command, and raises nothing but RedisErrors."""

    async def initialize(self, *arguments: Any, **options: Any) -> "_AsyncCluster":
        with _redis_errors():
            await super().initialize(*arguments, **options)
        return self

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with _redis_errors():
            return await super().execute_command(*arguments, **options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> "_AsyncPipeline":  # noqa: ARG002
        return _AsyncPipeline(self, transaction)  # type: ignore[abstract]  # redis-py declares what it sets

    async def some_server(self) -> Any:
        """One that the cluster names now."""
        await self.initialize()
        with _redis_errors():
            await self.nodes_manager.initialize()
        return self.get_random_node()

    async def __aenter__(self) -> "_AsyncCluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _AsyncPipeline(AsyncClusterPipeline):
    async def execute(self, *arguments: Any, **options: Any) -> list[Any]:
        with _redis_errors():
            return await super().execute(*arguments, **options)


class _BlockingCluster(RedisCluster):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        with _redis_errors():
            super().__init__(*arguments, **options)

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with _redis_errors():
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]


def _cluster(kind: Any, url: str, options: dict[str, Any]) -> Any:
    first, *others = server_urls(url)
    nodes = [ClusterNode(*_address(other)) for other in others]  # type: ignore[no-untyped-call]
    return kind.from_url(first, startup_nodes=nodes, retry=Retry(NoBackoff(), RETRIES), **options)


def _address(url: str) -> tuple[str, int]:
    options = parse_url(url)  # type: ignore[no-untyped-call]
    return options.get("host", "localhost"), options.get("port", 6379)


@contextmanager
def _redis_errors() -> Iterator[None]:
    """redis-py raises what is no RedisError where no server of a cluster answers, or none has a name's slot."""
    try:
        yield
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error
