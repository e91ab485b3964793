import asyncio
import json

import pytest
from redis.asyncio import Redis

from contracts.engine import EngineLease
from store import redis_names
from store.leases import LeaseStore


def a_lease(engine: str, **fields: object) -> EngineLease:
    values: dict[str, object] = {"url": "http://127.0.0.1:1", "model": "m", "task": "generate", "capacity": 8}
    return EngineLease.model_validate(values | {"engine": engine, "context_length": 2048} | fields)


@pytest.fixture
def leases(redis: Redis) -> LeaseStore:
    return LeaseStore(redis)


async def test_a_lease_is_seen_as_it_was_put(leases: LeaseStore) -> None:
    first = a_lease("engine-1", adapters=("ft:a",))
    await leases.put(first, ttl_s=5)
    assert await leases.alive() == [first]
    draining = a_lease("engine-1", draining=True)
    await leases.put(draining, ttl_s=5)
    assert await leases.alive() == [draining]


async def test_an_engine_that_stops_renewing_is_gone_and_its_name_cleared(leases: LeaseStore, redis: Redis) -> None:
    await leases.put(a_lease("engine-dead"), ttl_s=0.05)
    await leases.put(a_lease("engine-alive"), ttl_s=5)
    await asyncio.sleep(0.1)
    assert [lease.engine for lease in await leases.alive()] == ["engine-alive"]
    assert await redis.smembers(redis_names.ENGINES) == {b"engine-alive"}


async def test_renewing_keeps_a_lease_alive(leases: LeaseStore) -> None:
    for _ in range(4):
        await leases.put(a_lease("engine-1"), ttl_s=0.1)
        await asyncio.sleep(0.05)
    assert len(await leases.alive()) == 1


async def test_a_removed_lease_is_gone_at_once_and_gateways_hear_of_it(leases: LeaseStore, redis: Redis) -> None:
    await leases.put(a_lease("engine-1"), ttl_s=5)
    async with redis.pubsub() as news:
        await news.subscribe(redis_names.INVALIDATIONS)
        await news.get_message(timeout=1)
        await leases.remove("engine-1")
        heard = await news.get_message(timeout=1)
    assert heard is not None
    assert json.loads(heard["data"]) == {"kind": "engine", "id": "engine-1"}
    assert await leases.alive() == []


async def test_no_engine_is_an_empty_list(leases: LeaseStore) -> None:
    assert await leases.alive() == []
