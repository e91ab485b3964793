"""Limits as clients of a gateway meet them."""

import asyncio

from redis import Redis

from contracts.invalidation import Invalidation
from contracts.limits import Limits
from store import redis_names
from store.tenants import TenantRepository
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until


async def test_the_headers_tell_how_the_key_stands(serving: Serving):
    key = serving.gateway.new_key(requests_per_minute=100, tokens_per_minute=10_000)
    async with serving.gateway.client(key.secret) as client:
        answer = await client.post(CHAT, json=chat_body())

    assert answer.headers["x-ratelimit-limit-requests"] == "100"
    assert answer.headers["x-ratelimit-remaining-requests"] == "99"
    assert answer.headers["x-ratelimit-limit-tokens"] == "10000"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 10_000
    assert answer.headers["x-ratelimit-reset-requests"] == "600ms"


async def test_requests_beyond_the_rate_are_refused_with_the_time_to_wait(serving: Serving):
    key = serving.gateway.new_key(requests_per_minute=5)
    async with serving.gateway.client(key.secret) as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(12)))

    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 7
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert all(answer.headers["x-ratelimit-remaining-requests"] == "0" for answer in refused)
    assert len(serving.engine.requests()) == 5


async def test_tokens_that_were_reserved_and_not_used_are_given_back(serving: Serving):
    key = serving.gateway.new_key(tokens_per_minute=2000)
    async with serving.gateway.client(key.secret) as client:
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}", max_tokens=1500)) for i in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all(int(answer.headers["x-ratelimit-remaining-tokens"]) <= 500 for answer in answers)


async def test_requests_at_a_time_are_limited_until_one_ends(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.7)
    key = serving.gateway.new_key(concurrency=2)
    async with serving.gateway.client(key.secret) as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(4)))
        later = await client.post(CHAT, json=chat_body())

    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    assert later.status_code == 200


async def test_a_budget_of_money_is_spent_by_the_models_prices(serving: Serving, redis_sync: Redis):
    serving.register(redis_sync, model_card(input_price=1.0, output_price=10.0))
    probe = serving.gateway.new_key(money_per_day=1.0)
    budget = redis_names.budgets(probe.key.tenant, probe.key.id)
    async with serving.gateway.client(probe.secret) as client:
        while not redis_sync.exists(budget):
            usage = (await client.post(CHAT, json=chat_body())).json()["usage"]
    cost = (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 10.0) / 1e6
    key = serving.gateway.new_key(money_per_day=cost * 1.5 + 100e-6)  # two answers, by an estimate that fits once more
    async with serving.gateway.client(key.secret) as client:
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(5)]
        metrics = (await client.get("/metrics")).text

    told = next(line for line in metrics.splitlines() if line.startswith(f'flywheel_cost_total{{model="{MODEL}"}}'))
    assert float(told.split()[1]) >= 2 * cost * 0.99
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert {answer.json()["error"]["code"] for answer in refused} == {"insufficient_quota"}


async def test_a_tenants_new_limits_count_at_once(serving: Serving, redis_sync: Redis):
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as client:
        assert (await client.post(CHAT, json=chat_body())).status_code == 200
        TenantRepository(serving.gateway.database).set_limits(key.key.tenant, Limits(requests_per_minute=1))
        redis_sync.publish(redis_names.INVALIDATIONS, Invalidation(kind="tenant", id=key.key.tenant).model_dump_json())
        await asyncio.sleep(0.3)
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert "the tenant" in answers[1].json()["error"]["message"]


async def test_two_gateways_count_together(serving: Serving, start_gateway):
    key = serving.gateway.new_key(requests_per_minute=6)
    second = start_gateway(FLYWHEEL_DATABASE_URL=serving.gateway.settings["FLYWHEEL_DATABASE_URL"])
    wait_until(lambda: Serving(second, serving.engine).models().get(MODEL) == "live")
    async with serving.gateway.client(key.secret) as one, second.client(key.secret) as two:
        answers = await asyncio.gather(
            *((one if i % 2 else two).post(CHAT, json=chat_body(f"Hello {i}")) for i in range(12))
        )

    assert sum(answer.status_code == 200 for answer in answers) == 6
    assert sum(answer.status_code == 429 for answer in answers) == 6
