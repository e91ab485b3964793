"""Adapters that no engine has: requests ask for them, wait, and are answered when one has them."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from contracts.models import ModelCard
from store import redis_names
from store.tables import ModelRow
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until

ADAPTER = f"ft:{MODEL}:acme:sea:1"


@pytest.fixture
def adapter(serving: Serving, redis_sync) -> Iterator[ModelCard]:
    card = model_card(ADAPTER, kind="adapter", parent=MODEL)
    serving.register(redis_sync, card)
    wait_until(lambda: serving.models().get(ADAPTER) == "on_demand")
    yield card
    with serving.gateway.database.session() as session:
        session.delete(session.get_one(ModelRow, ADAPTER))
    serving.register(redis_sync)
    wait_until(lambda: ADAPTER not in serving.models())


async def until(condition, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


def load(engine) -> None:
    """What an agent does to the engine."""
    engine._client.post("/v1/load_lora_adapter", json={"lora_name": ADAPTER, "lora_path": "/x"}).raise_for_status()


async def test_a_request_asks_for_its_adapter_at_once_waits_and_is_noted_as_a_use(
    serving: Serving, adapter: ModelCard, redis: Redis, lease
):
    async with redis.pubsub(ignore_subscribe_messages=True) as news, serving.gateway.client() as client:
        await news.subscribe(redis_names.INVALIDATIONS)
        asked = [asyncio.create_task(client.post(CHAT, json=chat_body(str(at), model=ADAPTER))) for at in range(3)]
        wish = await anext(news.listen())
        assert json.loads(wish["data"]) == {"kind": "demand", "id": ADAPTER}
        assert await redis.zscore(redis_names.adapters_wanted(MODEL), ADAPTER) is not None
        assert not any(request.done() for request in asked)

        load(serving.engine)
        await asyncio.to_thread(lease, serving.engine, adapters=(ADAPTER,))
        answers = await asyncio.gather(*asked)

    assert {answer.status_code for answer in answers} == {200}
    await until(lambda: _is_true(redis.zscore(redis_names.adapter_uses(MODEL), ADAPTER)))
    await until(lambda: _is_false(redis.zscore(redis_names.adapters_wanted(MODEL), ADAPTER)))


async def test_an_engine_that_lost_its_adapter_against_its_lease_is_waited_for(
    serving: Serving, adapter: ModelCard, redis: Redis, lease
):
    stale = await asyncio.to_thread(lease, serving.engine, adapters=(ADAPTER,))
    wait_until(lambda: serving.models()[ADAPTER] == "live")
    async with serving.gateway.client() as client:
        asked = asyncio.create_task(client.post(CHAT, json=chat_body(model=ADAPTER)))
        await until(lambda: _is_true(_number(serving.engine.requests())))
        await asyncio.to_thread(lease, serving.engine, engine=stale.engine)
        await asyncio.sleep(0.3)
        load(serving.engine)
        await asyncio.to_thread(lease, serving.engine, engine=stale.engine, adapters=(ADAPTER,))

        assert (await asked).status_code in (200, 503)  # 503 where it looked thrice before the lease was mended


async def _is_true(value) -> bool:
    return bool(await value if asyncio.iscoroutine(value) else value)


async def _is_false(value) -> bool:
    return not await value


def _number(requests: list) -> int:
    return len(requests)
