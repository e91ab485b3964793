"""Requests that wait for an engine, through the real gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until

WITHOUT_CACHE = {"FLYWHEEL_CACHE__ENABLED": "false"}
IMPATIENT = WITHOUT_CACHE | {"FLYWHEEL_QUEUE__MAX_WAIT_S": "0.5", "FLYWHEEL_QUEUE__MAX_LENGTH_PER_TENANT": "2"}


@pytest.fixture
def small(gateway, fake_engine: FakeEngineProcess, lease: LeaseGiver, redis_sync) -> Serving:
    """A gateway in front of one engine that takes one request at a time, a quarter of a second each."""
    serving = Serving(gateway, fake_engine)
    lease(fake_engine, model=MODEL, capacity=1)
    serving.register(redis_sync, model_card())
    wait_until(lambda: serving.models().get(MODEL) == "live")
    fake_engine.behaviour(time_to_first_token_s=0.25)
    return serving


def prompts(serving: Serving) -> list[str]:
    return [request["body"]["messages"][0]["content"] for request in serving.engine.requests()]


@asynccontextmanager
async def tenants(serving: Serving, *names: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    clients = [serving.gateway.client(serving.gateway.new_key(tenant=name).secret) for name in names]
    yield clients
    for client in clients:
        await client.aclose()


@pytest.mark.parametrize("gateway", [WITHOUT_CACHE], indirect=True)
async def test_an_engine_never_gets_more_than_it_batches_and_no_tenant_starves(small: Serving):
    async with tenants(small, "flood", "small") as (flood, light):
        tasks = [asyncio.create_task(flood.post(CHAT, json=chat_body(f"flood {n}"))) for n in range(8)]
        await asyncio.sleep(0.1)
        tasks.append(asyncio.create_task(light.post(CHAT, json=chat_body("small"))))
        await asyncio.sleep(0.1)
        assert len(small.engine.requests()) == 1
        answers = await asyncio.gather(*tasks)

    assert {answer.status_code for answer in answers} == {200}
    assert prompts(small).index("small") <= 2


@pytest.mark.parametrize("gateway", [WITHOUT_CACHE], indirect=True)
async def test_a_priority_orders_a_tenants_own_requests_and_stays_here(small: Serving):
    async with tenants(small, "one") as (client,):
        tasks = []
        for prompt, priority in (("first", 0), ("later", 5), ("sooner", -5)):
            body = chat_body(prompt, stream=True, priority=priority)
            tasks.append(asyncio.create_task(client.post(CHAT, json=body)))
            await asyncio.sleep(0.05)
        answers = await asyncio.gather(*tasks)

    assert {answer.status_code for answer in answers} == {200}
    assert prompts(small) == ["first", "sooner", "later"]
    assert all("priority" not in request["body"] for request in small.engine.requests())


@pytest.mark.parametrize("gateway", [IMPATIENT], indirect=True)
async def test_the_queue_refuses_what_is_too_much_and_what_waits_too_long(small: Serving):
    small.engine.behaviour(time_to_first_token_s=1.5)
    async with tenants(small, "one") as (client,):
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"r{n}")) for n in range(4)))

    told = sorted((answer.status_code, (answer.json().get("error") or {}).get("code")) for answer in answers)
    assert told == [(200, None), (429, "rate_limit_exceeded"), (503, "engines_full"), (503, "engines_full")]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code != 200)
    text = httpx.get(f"{small.gateway.url}/metrics").text
    assert f'flywheel_queue_refused_total{{model="{MODEL}",reason="tenant_full"}} 1.0' in text
    assert f'flywheel_queue_refused_total{{model="{MODEL}",reason="waited_too_long"}} 2.0' in text
    assert f'flywheel_queue_length{{model="{MODEL}"}} 0.0' in text


@pytest.mark.parametrize("gateway", [WITHOUT_CACHE], indirect=True)
async def test_a_client_that_leaves_the_queue_never_reaches_an_engine(small: Serving):
    small.engine.behaviour(time_to_first_token_s=0.6)
    async with tenants(small, "one") as (client,):
        served = asyncio.create_task(client.post(CHAT, json=chat_body("served")))
        await asyncio.sleep(0.1)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=chat_body("leaves"), timeout=0.2)
        await served
        await client.post(CHAT, json=chat_body("comes after"))

    assert prompts(small) == ["served", "comes after"]


@pytest.mark.parametrize("gateway", [WITHOUT_CACHE], indirect=True)
async def test_the_clients_timeout_ends_the_wait_and_the_answer(small: Serving):
    small.engine.behaviour(time_to_first_token_s=1.0)
    async with tenants(small, "one") as (client,):
        served = asyncio.create_task(client.post(CHAT, json=chat_body(), headers={"x-request-timeout": "0.7"}))
        await asyncio.sleep(0.1)
        waited = await client.post(CHAT, json=chat_body("waits"), headers={"x-request-timeout": "0.2"})
        answers = [waited, await served]
        refused = await client.post(CHAT, json=chat_body(), headers={"x-request-timeout": "soon"})

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (504, "deadline_exceeded")
    ] * 2
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "x-request-timeout"
    wait_until(lambda: small.engine.requests()[0]["client_gone"], timeout_s=2)
    assert len(small.engine.requests()) == 1


@pytest.mark.parametrize("gateway", [WITHOUT_CACHE], indirect=True)
async def test_a_stream_that_passes_the_clients_timeout_ends_with_an_error_event(small: Serving):
    small.engine.behaviour(tokens=100, time_between_tokens_s=0.05)
    async with tenants(small, "one") as (client,):
        answer = await client.post(
            CHAT, json=chat_body(stream=True, max_tokens=100), headers={"x-request-timeout": "0.4"}
        )

    events = answer.text.split("\n\n")
    assert answer.status_code == 200
    assert len(events) > 3
    assert '"code":"deadline_exceeded"' in events[-2]
