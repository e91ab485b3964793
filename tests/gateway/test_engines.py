"""What operators are told of engines and tenants."""

import asyncio

from contracts.engine import EngineLoad
from tests.conftest import LeaseGiver
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body

ENGINES, TENANTS = "/v1/flywheel/engines", "/v1/flywheel/tenants"


async def test_engines_are_told_with_their_load(serving: Serving, lease: LeaseGiver):
    load = EngineLoad(running=3, waiting=1, kv_cache_usage=0.5, prefix_queries=200, prefix_hits=50)
    ours = lease(serving.engine, capacity=7, adapters=("ft:x",), load=load, draining=True)
    async with serving.gateway.client(serving.gateway.new_key(scopes=("admin",)).secret) as client:
        while not (found := [e for e in (await client.get(ENGINES)).json()["data"] if e["id"] == ours.engine]):
            await asyncio.sleep(0.05)

    assert found[0] == {
        "id": ours.engine,
        "object": "engine",
        "model": MODEL,
        "adapters": ["ft:x"],
        "state": "draining",
        "capacity": 7,
        "in_flight": 0,
        "running": 3,
        "waiting": 1,
        "kv_cache_usage": 0.5,
        "prefix_queries": 200,
        "prefix_hits": 50,
    }


async def test_tenants_are_told_with_what_they_have(serving: Serving):
    serving.engine.behaviour(tokens=20, time_between_tokens_s=0.05)
    key = serving.gateway.new_key()

    async with serving.gateway.client(key.secret) as client:

        async def mine() -> dict:
            data = (await client.get(TENANTS)).json()["data"]
            return next((tenant for tenant in data if tenant["tenant"] == key.key.tenant), {})

        running = asyncio.create_task(client.post(CHAT, json=chat_body(max_tokens=20)))
        await asyncio.sleep(0.3)
        during = await mine()
        answer = await running
        after = await mine()

    assert (during["in_flight"], during["tokens"]) == (1, 0)
    assert (after["in_flight"], after["waiting"]) == (0, 0)
    assert after["tokens"] == answer.json()["usage"]["total_tokens"]


async def test_only_a_key_of_scope_admin_is_told(serving: Serving):
    async with serving.gateway.client(serving.gateway.new_key(scopes=("inference", "jobs")).secret) as client:
        answers = [await client.get(ENGINES), await client.get(TENANTS)]
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (403, "insufficient_permissions")
    }
