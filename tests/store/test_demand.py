import time

import pytest
from redis.asyncio import Redis

from store import redis_names
from store.demand import MOST_REMEMBERED, WANTED_FOR_S, DemandStore
from tests.gateway.conftest import model_card

ADAPTER = model_card("ft:a", kind="adapter", parent="base")
WHOLE = model_card("ft:whole", kind="full", parent="base", on_demand=True)
ON_WHOLE = model_card("ft:b", kind="adapter", parent="ft:whole", on_demand=True)


@pytest.fixture
def demand(redis: Redis) -> DemandStore:
    return DemandStore(redis)


async def test_uses_are_remembered_by_base_and_engine(demand: DemandStore) -> None:
    await demand.note_uses([ADAPTER, ON_WHOLE])
    assert (await demand.of_adapters("base", most=9)).used_at.keys() == {"ft:a"}
    assert (await demand.of_adapters("ft:whole", most=9)).used_at.keys() == {"ft:b"}
    assert (await demand.of_engines()).keys() == {"ft:whole"}  # an adapter's use is one of its base's engine


async def test_only_the_latest_uses_are_remembered_and_read(demand: DemandStore, redis: Redis) -> None:
    old = {f"old-{at}": float(at) for at in range(MOST_REMEMBERED)}
    await redis.zadd(redis_names.adapter_uses("base"), old)
    await demand.note_uses([ADAPTER])
    assert await redis.zcard(redis_names.adapter_uses("base")) == MOST_REMEMBERED
    assert list((await demand.of_adapters("base", most=2)).used_at) == ["ft:a", f"old-{MOST_REMEMBERED - 1}"]


async def test_a_wish_keeps_the_time_it_began_until_it_is_forgotten(demand: DemandStore) -> None:
    await demand.want([ADAPTER], announce=False)
    began = (await demand.of_adapters("base", most=1)).wanted_since
    await demand.want([ADAPTER], announce=False)
    assert (await demand.of_adapters("base", most=1)).wanted_since == began
    await demand.forget_wishes([ADAPTER])
    assert (await demand.of_adapters("base", most=1)).wanted_since == {}


async def test_the_wish_of_a_killed_gateway_ends(demand: DemandStore, redis: Redis) -> None:
    await redis.zadd(redis_names.adapters_wanted("base"), {"ft:a": time.time() - WANTED_FOR_S - 1})
    assert (await demand.of_adapters("base", most=1)).wanted_since == {}


async def test_who_needs_an_engine_asks_for_it(demand: DemandStore, redis: Redis) -> None:
    await demand.want([ADAPTER], announce=False)
    assert await redis.smembers(redis_names.ENGINE_REQUESTS) == set()
    await demand.want([WHOLE], announce=False)
    assert await redis.spop(redis_names.ENGINE_REQUESTS) == b"ft:whole"
    await demand.want([ON_WHOLE], announce=False)
    assert await redis.spop(redis_names.ENGINE_REQUESTS) == b"ft:whole"
