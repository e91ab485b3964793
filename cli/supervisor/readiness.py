"""How the supervisor tells that a service works, each check in the way of those who depend on the service."""

from collections.abc import Awaitable, Callable

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from store.leases import LeaseStore
from store.release_figures import ReleaseFigures

CHECK_TIMEOUT_S = 1.0

Check = Callable[[], Awaitable[bool]]


def redis_answers(redis: Redis) -> Check:
    async def check() -> bool:
        try:
            return bool(await redis.ping())
        except RedisError:  # it refuses commands while it still loads its data
            return False

    return check


def answers_ok(client: httpx.AsyncClient, url: str) -> Check:
    async def check() -> bool:
        try:
            return (await client.get(url, timeout=CHECK_TIMEOUT_S)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return check


def engine_holds_lease(redis: Redis, client: httpx.AsyncClient, *, model: str, port: int) -> Check:
    """A lease for this model and port, and an engine that answers there: a lease may outlive its engine a little."""
    leases = LeaseStore(redis)

    async def check() -> bool:
        try:
            alive = await leases.alive()
        except RedisError:
            return False
        mine = [lease for lease in alive if lease.model == model and lease.url.endswith(f":{port}")]
        return bool(mine) and await answers_ok(client, f"{mine[0].url}/health")()

    return check


def worker_waits_for_jobs(broker: Redis) -> Check:
    """Some worker listens to the queue: Celery waits for messages in Redis' BRPOP."""

    async def check() -> bool:
        try:
            return any(client["cmd"] == "brpop" for client in await broker.client_list())
        except RedisError:
            return False

    return check


def releases_are_controlled(redis: Redis) -> Check:
    figures = ReleaseFigures(redis)

    async def check() -> bool:
        try:
            return await figures.controlled()
        except RedisError:
            return False

    return check
