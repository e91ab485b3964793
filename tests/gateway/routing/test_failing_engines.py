"""A gateway with several engines, some of which fail."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess

ROUND_ROBIN = pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__ROUTING_POLICY": "round_robin"}], indirect=True)


def metric(gateway: GatewayProcess, name: str) -> float:
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture
def pair(serving: Serving, start_fake_engine: Callable[..., FakeEngineProcess], lease: LeaseGiver):
    second = start_fake_engine()
    lease(second, model=MODEL)
    wait_until(lambda: metric(serving.gateway, "flywheel_engines{") == 2)
    return serving.engine, second


async def ask(client: httpx.AsyncClient, count: int) -> list[int]:
    answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {n}")) for n in range(count)))
    return [answer.status_code for answer in answers]


async def ask_one_by_one(client: httpx.AsyncClient, count: int) -> list[int]:
    return [(await client.post(CHAT, json=chat_body(f"Hello {n}"))).status_code for n in range(count)]


@ROUND_ROBIN
@pytest.mark.parametrize("failure", [{"status": 500}, {"close_before_headers": True}, {"garbage": "head"}])
async def test_a_failing_engine_is_ejected_probed_and_taken_back(serving: Serving, pair, failure: dict):
    _, bad = pair
    bad.behaviour(**failure)
    async with serving.gateway.client() as client:
        assert set(await ask_one_by_one(client, 20)) == {200}
        assert len(bad.requests()) == 3  # failures in a row that eject

        await asyncio.sleep(2.1)
        assert set(await ask_one_by_one(client, 10)) == {200}
        assert len(bad.requests()) == 4  # one probe, which failed

        bad.behaviour()
        await asyncio.sleep(4.1)
        assert set(await ask_one_by_one(client, 10)) == {200}
        assert len(bad.requests()) >= 9  # the probe took it back


@ROUND_ROBIN
async def test_while_all_fail_all_are_asked_and_the_first_to_recover_answers(serving: Serving, pair):
    for engine in pair:
        engine.behaviour(status=500)
    async with serving.gateway.client() as client:
        assert set(await ask_one_by_one(client, 6)) == {502}
        pair[0].behaviour()
        assert 200 in await ask_one_by_one(client, 2)


async def test_retries_stay_within_their_budget(start_gateway, redis_sync, lease, start_fake_engine, fake_engine):
    gateway = start_gateway(FLYWHEEL_GATEWAY__ROUTING_POLICY="round_robin")
    Serving(gateway, fake_engine).register(redis_sync, model_card())
    engines = [fake_engine, start_fake_engine()]
    for engine in engines:
        lease(engine, model=MODEL)
        engine.behaviour(status=500)
    wait_until(lambda: metric(gateway, "flywheel_engines{") == 2)
    async with gateway.client() as client:
        for _ in range(10):
            assert set(await ask(client, 20)) == {502}

    attempts = sum(len(engine.requests()) for engine in engines)
    assert 200 + 10 <= attempts <= 200 * 1.2
    assert metric(gateway, 'flywheel_retries_total{result="over_budget"}') > 100


async def test_a_prefix_stays_at_its_engine(serving: Serving, pair):
    system = "You answer for the company, in few words and to the point. " * 20
    async with serving.gateway.client() as client:
        for prompt in range(8):
            messages = [{"role": "system", "content": f"{prompt} {system}"}]
            for turn in range(3):
                messages.append({"role": "user", "content": f"Question {turn}"})
                await client.post(CHAT, json=chat_body() | {"messages": messages})
    by_prompt = [{request["body"]["messages"][0]["content"][0] for request in engine.requests()} for engine in pair]

    assert not by_prompt[0] & by_prompt[1]
    assert by_prompt[0] | by_prompt[1] == set("01234567")


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__ROUTING_POLICY": "session_affinity"}], indirect=True)
@pytest.mark.parametrize("by_header", [True, False])
async def test_a_session_stays_at_its_engine(serving: Serving, pair, by_header: bool):
    async with serving.gateway.client() as client:
        for session in range(12):
            name = f"session-{session}"
            for turn in range(2):
                body = chat_body(f"{name} {turn}") | ({} if by_header else {"user": name})
                await client.post(CHAT, json=body, headers={"x-session-id": name} if by_header else {})
    sessions = [
        [request["body"]["messages"][0]["content"].split()[0] for request in engine.requests()] for engine in pair
    ]

    assert sorted(sessions[0] + sessions[1]) == sorted(f"session-{session}" for session in range(12) for _ in range(2))
    assert not set(sessions[0]) & set(sessions[1])
    assert all(sessions)
