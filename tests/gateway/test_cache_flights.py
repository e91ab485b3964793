"""Identical requests in flight share one generation: in one gateway as it comes, over several by what is kept."""

import asyncio
import contextlib
import time
from collections import Counter

import httpx
import pytest

from gateway.cache.claims import LOOK_AGAIN_S
from tests.gateway.conftest import CHAT, Serving, chat_body
from tests.gateway_process import GatewayProcess

QUESTION = chat_body(temperature=0)
STREAM = chat_body(temperature=0, stream=True)


def results(answers: list[httpx.Response]) -> Counter[str]:
    return Counter(answer.headers["x-flywheel-cache"] for answer in answers)


async def ask_and_leave(client: httpx.AsyncClient, after_s: float, body: dict = STREAM) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await client.post(CHAT, json=body)


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["whole", "stream"])
async def test_one_generation_answers_all_that_ask_at_once(serving: Serving, body: dict):
    serving.engine.behaviour(time_to_first_token_s=0.3, time_between_tokens_s=0.02)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(20)))

    assert results(answers) == {"miss": 1, "collapsed": 19}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert {answer.headers["content-type"] for answer in answers} == {answers[0].headers["content-type"]}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 20
    assert len(serving.engine.requests()) == 1


async def test_a_follower_gets_tokens_as_they_come_and_from_the_first_on(serving: Serving):
    serving.engine.behaviour(time_between_tokens_s=0.15)
    arrivals: list[float] = []
    async with serving.gateway.client() as client:
        leader = asyncio.create_task(client.post(CHAT, json=STREAM))
        await asyncio.sleep(0.4)
        async with client.stream("POST", CHAT, json=STREAM) as answer:
            content = b""
            async for chunk in answer.aiter_raw():
                arrivals.append(time.monotonic())
                content += chunk
        led = await leader

    assert answer.headers["x-flywheel-cache"] == "collapsed"
    assert content == led.content
    assert arrivals[-1] - arrivals[0] > 0.4


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["whole", "stream"])
async def test_one_generation_answers_over_two_gateways(serving: Serving, second: GatewayProcess, body: dict):
    serving.engine.behaviour(time_to_first_token_s=1.1)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as one, second.client(key.secret) as two:
        begun = time.monotonic()
        answers = await asyncio.gather(*((one, two)[number % 2].post(CHAT, json=body) for number in range(10)))
        took_s = time.monotonic() - begun

    assert results(answers) == {"miss": 1, "collapsed": 9}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert len(serving.engine.requests()) == 1
    assert took_s < 2 * LOOK_AGAIN_S  # the landing was heard, not found out by looking again


async def test_followers_count_in_limits_as_hits_do(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.3)
    key = serving.gateway.new_key(tokens_per_minute=10_000, requests_per_minute=60)
    async with serving.gateway.client(key.secret) as client:
        await asyncio.gather(*(client.post(CHAT, json=STREAM | {"max_tokens": 1000}) for _ in range(8)))
        await asyncio.sleep(0.2)
        after = await client.post(CHAT, json=STREAM | {"max_tokens": 1000})

    assert len(serving.engine.requests()) == 1
    assert int(after.headers["x-ratelimit-remaining-tokens"]) > 9_900
    assert int(after.headers["x-ratelimit-remaining-requests"]) <= 60 - 8 + 2


async def test_the_answer_goes_on_for_followers_when_the_leaders_client_leaves(serving: Serving):
    serving.engine.behaviour(time_between_tokens_s=0.1)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as leader, serving.gateway.client(key.secret) as follower:
        leaving = asyncio.create_task(ask_and_leave(leader, 0.45))
        await asyncio.sleep(0.2)
        answer = await follower.post(CHAT, json=STREAM)
        await leaving
        again = await follower.post(CHAT, json=STREAM)

    assert answer.headers["x-flywheel-cache"] == "collapsed"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert again.content == answer.content
    assert [request["finished"] for request in serving.engine.requests()] == [True]


async def test_the_engines_work_ends_when_everybody_has_left(serving: Serving):
    serving.engine.behaviour(tokens=1000, time_between_tokens_s=0.05)
    key = serving.gateway.new_key()
    body = STREAM | {"max_tokens": 1000}

    async with serving.gateway.client(key.secret) as leader, serving.gateway.client(key.secret) as follower:
        first = asyncio.create_task(ask_and_leave(leader, 0.3, body))
        await asyncio.sleep(0.1)
        await ask_and_leave(follower, 0.6, body)
        await first
        await asyncio.sleep(0.3)

    (request,) = serving.engine.requests()
    assert request["client_gone"]
    assert 8 < request["chunks_sent"] < 30


async def test_another_one_leads_when_the_leader_left_before_the_answer(serving: Serving, second: GatewayProcess):
    """The first gateway hears at its next renewal that the other one waits, so its work may end with its client."""
    serving.engine.behaviour(time_to_first_token_s=1.0)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as leader, second.client(key.secret) as follower:
        leaving = asyncio.create_task(ask_and_leave(leader, 0.3))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        answers = await asyncio.gather(*(follower.post(CHAT, json=STREAM) for _ in range(3)))
        took_s = time.monotonic() - begun
        await leaving

    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].text.endswith("data: [DONE]\n\n")
    assert len(serving.engine.requests()) <= 2
    assert took_s < 2.2


async def test_a_killed_leaders_followers_elect_another_one(serving: Serving, second: GatewayProcess):
    serving.engine.behaviour(time_to_first_token_s=30, for_requests=1)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as follower, second.client(key.secret) as leader:
        doomed = asyncio.create_task(leader.post(CHAT, json=STREAM))
        await asyncio.sleep(0.3)
        following = [asyncio.create_task(follower.post(CHAT, json=STREAM)) for _ in range(3)]
        await asyncio.sleep(0.3)
        second.process.kill()
        begun = time.monotonic()
        answers = await asyncio.gather(*following)
        took_s = time.monotonic() - begun
        with pytest.raises(httpx.TransportError):
            await doomed

    assert results(answers) == {"miss": 1, "collapsed": 2}
    assert len(serving.engine.requests()) == 2
    assert took_s < 4.5


async def test_a_failed_generation_sends_each_follower_to_the_engine(serving: Serving, second: GatewayProcess):
    serving.engine.behaviour(status=500, for_requests=1)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as one, second.client(key.secret) as two:
        answers = await asyncio.gather(*((one, two)[number % 2].post(CHAT, json=STREAM) for number in range(6)))

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {502: 1, 200: 5}


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__MAX_ENTRY_BYTES": "300"}], indirect=True)
async def test_nobody_waits_in_line_for_an_answer_that_is_too_large_to_keep(serving: Serving, second: GatewayProcess):
    """Five one after the other would take 3 s."""
    serving.engine.behaviour(time_to_first_token_s=0.6)
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as one, second.client(key.secret) as two:
        begun = time.monotonic()
        first = asyncio.create_task(one.post(CHAT, json=QUESTION))
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(two.post(CHAT, json=QUESTION) for _ in range(5)))
        took_s = time.monotonic() - begun
        await first

    assert {answer.status_code for answer in answers} == {200}
    assert took_s < 1.8


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__MAX_ENTRY_BYTES": "300"}], indirect=True)
async def test_an_answer_longer_than_what_may_be_kept_still_reaches_its_followers_whole(serving: Serving):
    serving.engine.behaviour(tokens=40, time_to_first_token_s=0.3, time_between_tokens_s=0.02)
    body = STREAM | {"max_tokens": 40}
    async with serving.gateway.client() as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(5)))

    assert results(answers) == {"miss": 1, "collapsed": 4}
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__MAX_ENTRY_BYTES": str(64 << 20)}], indirect=True)
async def test_a_slow_leader_holds_up_nobody(serving: Serving):
    """The leader's client reads nothing while its follower takes all of an answer beyond every buffer on the way."""
    serving.engine.behaviour(tokens=1000, token_bytes=16_000)
    key = serving.gateway.new_key()
    big = chat_body(temperature=0, stream=True, max_tokens=1000)
    async with serving.gateway.client(key.secret) as leader, serving.gateway.client(key.secret) as follower:
        async with leader.stream("POST", CHAT, json=big) as stalled:
            await asyncio.sleep(0.5)
            followed = await follower.post(CHAT, json=big)
            content = b"".join([chunk async for chunk in stalled.aiter_raw()])

    assert followed.headers["x-flywheel-cache"] in ("collapsed", "hit")
    assert len(content) > 16_000_000
    assert followed.content == content


async def test_no_cache_and_no_store_share_with_nobody(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.3)
    async with serving.gateway.client() as client:
        answers = await asyncio.gather(
            client.post(CHAT, json=QUESTION),
            client.post(CHAT, json=QUESTION, headers={"cache-control": "no-cache"}),
            client.post(CHAT, json=QUESTION, headers={"cache-control": "no-store"}),
        )

    assert results(list(answers)) == {"miss": 1, "bypass": 2}
    assert len(serving.engine.requests()) == 3


async def test_nothing_is_shared_between_tenants(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.3)
    async with serving.gateway.client() as one, serving.gateway.client() as other:
        answers = await asyncio.gather(one.post(CHAT, json=QUESTION), other.post(CHAT, json=QUESTION))

    assert results(list(answers)) == {"miss": 2}


async def test_a_request_that_may_end_early_takes_nobody_with_it(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.6)
    async with serving.gateway.client() as client:
        hasty = asyncio.create_task(client.post(CHAT, json=STREAM, headers={"x-request-timeout": "0.4"}))
        await asyncio.sleep(0.1)
        patient = asyncio.create_task(client.post(CHAT, json=STREAM))
        await asyncio.sleep(0.1)
        hasty_follower = await client.post(CHAT, json=STREAM, headers={"x-request-timeout": "0.2"})
        answers = [await hasty, hasty_follower, await patient]

    assert [answer.status_code for answer in answers] == [504, 504, 200]
    assert len(serving.engine.requests()) == 2
