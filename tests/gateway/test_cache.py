"""Repeats are answered from Redis, for the same tenant and the same weights only."""

import asyncio

import pytest

from contracts.openai import ChatCompletionRequest
from gateway.cache.repeats import cache_use
from tests.gateway.conftest import CHAT, Serving, chat_body, model_card


async def repeat(client, body: dict, headers: dict | None = None):
    """Asks twice, leaving time for the first answer to be kept."""
    first = await client.post(CHAT, json=body, headers=headers)
    await asyncio.sleep(0.1)
    return first, await client.post(CHAT, json=body, headers=headers)


async def test_a_repeat_at_temperature_0_is_a_hit_with_the_same_bytes(serving: Serving):
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0))

    assert (first.headers["x-flywheel-cache"], second.headers["x-flywheel-cache"]) == ("miss", "hit")
    assert first.content == second.content
    assert len(serving.engine.requests()) == 1


async def test_a_stream_is_replayed_as_a_stream(serving: Serving):
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0, stream=True))

    assert second.headers["x-flywheel-cache"] == "hit"
    assert second.headers["content-type"].startswith("text/event-stream")
    assert first.content == second.content
    assert second.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("fields", "headers", "results"),
    [
        ({}, {}, ["bypass", "bypass"]),
        ({"temperature": 0.7}, {}, ["bypass", "bypass"]),
        ({"temperature": 0.7, "seed": 7}, {}, ["miss", "hit"]),
        ({"temperature": 0.7}, {"x-flywheel-cache": "use"}, ["miss", "hit"]),
        ({"temperature": 0}, {"cache-control": "no-store"}, ["bypass", "bypass"]),
        ({"temperature": 0}, {"cache-control": "no-cache"}, ["bypass", "bypass"]),
    ],
)
async def test_only_what_would_repeat_is_kept(serving: Serving, fields: dict, headers: dict, results: list[str]):
    async with serving.gateway.client() as client:
        answers = await repeat(client, chat_body(**fields), headers)

    assert [answer.headers["x-flywheel-cache"] for answer in answers] == results


async def test_no_cache_asks_anew_and_keeps_the_new_answer(serving: Serving):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0), {"cache-control": "no-cache"})
        answer = await client.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "hit"


async def test_nothing_crosses_tenants(serving: Serving):
    async with serving.gateway.client() as one, serving.gateway.client() as other:
        await repeat(one, chat_body(temperature=0))
        answer = await other.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "miss"


async def test_new_weights_make_old_answers_unreachable(serving: Serving, redis_sync):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0))
        serving.register(redis_sync, model_card(digest="sha256:retrained"))
        await asyncio.sleep(0.3)
        answer = await client.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "miss"


async def test_a_stream_that_breaks_off_is_not_kept(serving: Serving):
    serving.engine.behaviour(close_after_chunks=3, for_requests=1)
    async with serving.gateway.client() as client:
        _, second = await repeat(client, chat_body(temperature=0, stream=True))

    assert second.headers["x-flywheel-cache"] == "miss"
    assert "error" not in second.text


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__MAX_ENTRY_BYTES": "100"}], indirect=True)
async def test_an_answer_beyond_the_bound_is_not_kept(serving: Serving):
    async with serving.gateway.client() as client:
        _, second = await repeat(client, chat_body(temperature=0))

    assert second.headers["x-flywheel-cache"] == "miss"


async def test_an_error_is_not_kept(serving: Serving):
    serving.engine.behaviour(status=500, for_requests=1)
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0))

    assert (first.status_code, second.status_code) == (502, 200)
    assert second.headers["x-flywheel-cache"] == "miss"


def digest_of(body: bytes) -> str | None:
    request = ChatCompletionRequest(model="m", messages=[], temperature=0)
    return cache_use(request, body, model_card(), CHAT, {}).digest


def test_the_digest_ignores_order_and_who_asks_but_nothing_else():
    plain = digest_of(b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a","name":"x"}]}')

    assert plain == digest_of(
        b'{"messages": [{"name":"x","content":"a","role":"user"}], "temperature": 0,'
        b' "user":"u", "top_p":null, "model":"m"}'
    )
    assert plain != digest_of(b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}]}')
    assert plain != digest_of(b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"b","name":"x"}]}')
