"""A second engine for a first token that is late."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from gateway.relay.hedging import FEWEST, SHORTEST_DELAY_S, FirstTokenTimes
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway.routing.test_failing_engines import metric
from tests.gateway_process import GatewayProcess

SLOW_S = 3.0


def test_slow_is_what_few_were():
    times = FirstTokenTimes()
    for number in range(FEWEST - 1):
        times.note(number / 10)
    assert times.slow_s() is None

    for _ in range(300):
        times.note(0.1)
    times.note(9)
    assert times.slow_s() == 0.1


def test_very_fast_engines_are_not_hedged_for_nothing():
    times = FirstTokenTimes()
    for _ in range(FEWEST):
        times.note(0.0001)

    assert times.slow_s() == SHORTEST_DELAY_S


@pytest.fixture
def hedged(start_gateway: Callable[..., GatewayProcess], fake_engine, start_fake_engine, lease, redis_sync):
    """A gateway that hedges and knows how fast its two engines are; the engines."""
    gateway = start_gateway(FLYWHEEL_GATEWAY__HEDGING="true", FLYWHEEL_GATEWAY__ROUTING_POLICY="round_robin")
    Serving(gateway, fake_engine).register(redis_sync, model_card())
    engines = (fake_engine, start_fake_engine())
    for engine in engines:
        lease(engine, model=MODEL)
    wait_until(lambda: metric(gateway, "flywheel_engines{") == 2)
    return gateway, engines


async def warm(client: httpx.AsyncClient) -> None:
    for number in range(FEWEST + 2):
        answer = await client.post(CHAT, json=chat_body(f"warm {number}", stream=True))
        assert answer.status_code == 200


async def test_the_first_token_wins_and_the_losers_work_ends(hedged):
    gateway, (slow, fast) = hedged
    async with gateway.client() as client:
        await warm(client)
        plain = (await client.post(CHAT, json=chat_body("which", stream=True))).text
        slow.behaviour(time_to_first_token_s=SLOW_S)
        before = len(fast.requests())
        began = time.monotonic()
        answers = [await client.post(CHAT, json=chat_body("which", stream=True)) for _ in range(6)]
        took_s = time.monotonic() - began

    assert {answer.status_code for answer in answers} == {200}
    assert [answer.text.count("data: ") for answer in answers] == [plain.count("data: ")] * 6
    assert took_s < SLOW_S
    assert len(fast.requests()) - before == 6
    lost = [request for request in slow.requests() if not request["finished"]]
    assert len(lost) == 3
    wait_until(lambda: all(request["client_gone"] for request in slow.requests() if not request["finished"]))
    assert metric(gateway, 'flywheel_hedges_total{result="won"}') == 3
    assert metric(gateway, "flywheel_in_flight_requests") == 0


async def test_answers_that_are_not_streamed_are_asked_once(hedged):
    gateway, engines = hedged
    async with gateway.client() as client:
        await warm(client)
        for engine in engines:
            engine.behaviour(time_to_first_token_s=0.3)
        before = sum(len(engine.requests()) for engine in engines)
        await client.post(CHAT, json=chat_body())

    assert sum(len(engine.requests()) for engine in engines) == before + 1


async def test_when_all_are_slow_hedges_stay_within_the_retry_budget(hedged):
    gateway, engines = hedged
    async with gateway.client() as client:
        await warm(client)
        for engine in engines:
            engine.behaviour(time_to_first_token_s=0.5)
        before = sum(len(engine.requests()) for engine in engines)
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"{n}", stream=True)) for n in range(60)))

    assert {answer.status_code for answer in answers} == {200}
    assert before + 60 < sum(len(engine.requests()) for engine in engines) <= before + 60 + 0.2 * 82 + 1


async def test_a_client_that_leaves_ends_both(hedged):
    gateway, engines = hedged
    async with gateway.client() as client:
        await warm(client)
        for engine in engines:
            engine.behaviour(time_to_first_token_s=30)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=chat_body(stream=True), timeout=0.5)

    unfinished = [request for engine in engines for request in engine.requests() if not request["finished"]]
    assert len(unfinished) == 2
    wait_until(lambda: metric(gateway, "flywheel_in_flight_requests") == 0)


async def test_an_engine_that_fails_while_hedged_leaves_the_other_one_to_answer(hedged):
    gateway, (one, other) = hedged
    async with gateway.client() as client:
        await warm(client)
        one.behaviour(time_to_first_token_s=1)
        other.behaviour(close_before_headers=True)
        answers = [await client.post(CHAT, json=chat_body(f"{n}", stream=True)) for n in range(2)]

    assert {answer.status_code for answer in answers} == {200}
    assert not any("error" in answer.text for answer in answers)
