"""Keys that ask for it get the kept answer to a question in other words, and only where nothing else differs."""

import asyncio
import time
import uuid

import pytest

from store import redis_names
from store.keys import NewApiKey
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, EMBEDDER, Serving, embedder_card, model_card, wait_until
from tests.gateway.semantic_client import PATIENT, TIMEOUT_S, ask, kept_questions, lookups, question, result
from tests.gateway_process import GatewayProcess

LETTERS = str.maketrans("0123456789", "ghijklmnop")

pytestmark = pytest.mark.parametrize("gateway", [PATIENT], indirect=True)


@pytest.fixture
def asked() -> str:
    """A question that no other test asks, since a gateway remembers the vectors of texts."""
    return f"How do I reset my {uuid.uuid4().hex.translate(LETTERS)} password?"


def in_other_words(asked: str) -> str:
    """Its similarity by the fake engine, which counts words, is 7 / √56."""
    return f"Hello, {asked}"


@pytest.fixture
def key(serving: Serving) -> NewApiKey:
    return serving.gateway.new_key(semantic_cache=True)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_question_in_other_words_gets_the_kept_answer(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, stream: bool, asked: str
):
    async with serving.gateway.client(key.secret) as client:
        first = await ask(client, question(asked, stream=stream))
        second = await ask(client, question(in_other_words(asked), stream=stream))
        same = await ask(client, question(asked, stream=stream))
        metrics = (await client.get("/metrics")).text

    assert [result(answer) for answer in (first, second, same)] == ["miss", "semantic", "hit"]
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert float(second.headers["x-flywheel-cache-similarity"]) == pytest.approx(0.935, abs=0.01)
    assert second.headers["age"] == "0"
    assert "x-flywheel-cache-similarity" not in {*first.headers, *same.headers}
    assert len(serving.engine.requests()) == 1
    assert 'flywheel_cache_requests_total{result="semantic"}' in metrics


async def test_whoever_does_not_ask_for_it_neither_waits_nor_gets_it(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, asked: str
):
    plain = serving.gateway.new_key(tenant=key.key.tenant)
    async with serving.gateway.client(key.secret) as client, serving.gateway.client(plain.secret) as other:
        await ask(client, question(asked))
        asked_before = len(embedder.requests())
        answers = [await ask(other, question(in_other_words(asked))), await ask(other, question(asked))]

    assert [result(answer) for answer in answers] == ["miss", "hit"]
    assert len(embedder.requests()) == asked_before == 1


async def test_it_does_not_cross_tenants(serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, asked: str):
    stranger = serving.gateway.new_key(semantic_cache=True)
    async with serving.gateway.client(key.secret) as client, serving.gateway.client(stranger.secret) as other:
        await ask(client, question(asked))
        answer = await ask(other, question(in_other_words(asked)))

    assert result(answer) == "miss"


async def test_all_but_the_last_words_must_be_equal(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, asked: str
):
    def told(system: str, text: str) -> dict[str, object]:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        return question(text) | {"messages": messages}

    async with serving.gateway.client(key.secret) as client:
        await ask(client, question(asked))
        others = [{"max_tokens": 7}, {"stream": True}, {"seed": 1}, {"response_format": {"type": "text"}}]
        results = [result(await ask(client, question(in_other_words(asked), **fields))) for fields in others]
        results.append(result(await ask(client, told("Be brief.", asked))))
        results.append(result(await ask(client, told("Be brief.", in_other_words(asked)))))
        results.append(result(await ask(client, told("Be kind.", in_other_words(asked)))))

    assert results == [*["miss"] * 5, "semantic", "miss"]


async def test_near_questions_whose_words_forbid_it_are_not_answered(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey
):
    async with serving.gateway.client(key.secret) as client:
        await ask(client, question("Which of these plans for small teams would you advise me to take in year 1?"))
        near = await ask(
            client, question("Which of these plans for small teams would you advise me to take in year 2?")
        )

    assert result(near) == "miss"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"logprobs": True},
        {"messages": [{"role": "assistant", "tool_calls": []}, {"role": "user", "content": "Why?"}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "3", "tool_call_id": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        {"messages": [{"role": "user", "content": "word " * 500}]},
        {"temperature": 0.7},
    ],
    ids=["tools", "logprobs", "tool calls", "tool answer", "image", "too long", "at random"],
)
async def test_questions_of_other_kinds_are_not_even_compared(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, fields: dict[str, object], asked: str
):
    async with serving.gateway.client(key.secret) as client:
        await ask(client, question(asked) | fields)

    assert embedder.requests() == []


async def test_cache_control_holds_for_similar_answers_too(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, asked: str
):
    async with serving.gateway.client(key.secret) as client:
        await ask(client, question(asked))
        await asyncio.sleep(2)
        controls = ["no-cache", "no-store", "max-age=60", "max-age=1"]
        answers = [
            await ask(client, question(in_other_words(asked)), cache_control=control) for control in controls[1:]
        ]
        anew = await ask(client, question(in_other_words(asked)), cache_control=controls[0])

    assert [result(answer) for answer in (anew, *answers)] == ["bypass", "bypass", "semantic", "miss"]


async def test_new_weights_forget_what_the_old_ones_answered(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, redis_sync, asked: str
):
    async with serving.gateway.client(key.secret) as client:
        await ask(client, question(asked))
        serving.register(redis_sync, model_card(digest="sha256:retrained"))
        await asyncio.sleep(0.3)
        answer = await ask(client, question(in_other_words(asked)))

    assert result(answer) == "miss"


async def test_without_an_embedding_engine_requests_go_on_and_one_is_asked_for(
    serving: Serving, key: NewApiKey, redis_sync, asked: str
):
    serving.register(redis_sync, embedder_card())
    wait_until(lambda: serving.models().get(EMBEDDER) == "on_demand")
    async with serving.gateway.client(key.secret) as client:
        before, started_at = await lookups(client, "no_engine"), time.monotonic()
        answer = await ask(client, question(asked))
        took_s = time.monotonic() - started_at
        counted = await lookups(client, "no_engine") - before

    assert (result(answer), counted) == ("miss", 1)
    assert took_s < TIMEOUT_S
    assert redis_sync.smembers(redis_names.ENGINE_REQUESTS) == {EMBEDDER.encode()}


@pytest.mark.parametrize(
    ("behaviour", "counted_as"),
    [({"time_to_first_token_s": 5}, "too_late"), ({"status": 400}, "failed"), ({"garbage": "head"}, "failed")],
)
async def test_an_embedding_engine_that_fails_costs_a_similar_answer_and_nothing_else(
    serving: Serving,
    embedder: FakeEngineProcess,
    key: NewApiKey,
    behaviour: dict[str, object],
    counted_as: str,
    asked: str,
):
    async with serving.gateway.client(key.secret) as client:
        await ask(client, question(asked))
        embedder.behaviour(**behaviour)
        before, started_at = await lookups(client, counted_as), time.monotonic()
        answer = await ask(client, question(in_other_words(asked)))
        took_s = time.monotonic() - started_at
        counted = await lookups(client, counted_as) - before

    assert (result(answer), counted) == ("miss", 1)
    assert took_s < TIMEOUT_S + 1


async def test_a_similar_answer_costs_a_request_and_no_tokens(
    serving: Serving, embedder: FakeEngineProcess, asked: str
):
    limited = serving.gateway.new_key(semantic_cache=True, requests_per_minute=4, tokens_per_day=1000)
    async with serving.gateway.client(limited.secret) as client:
        await ask(client, question(asked))
        left = [(await ask(client, question(in_other_words(asked)))).headers for _ in range(3)]
        refused = await client.post(CHAT, json=question(in_other_words(asked)))

    tokens = {int(headers["x-ratelimit-remaining-tokens"]) for headers in left}
    assert (len(tokens), refused.status_code) == (1, 429)


async def test_another_gateway_finds_it_and_a_clearing_reaches_both(
    serving: Serving, embedder: FakeEngineProcess, key: NewApiKey, second: GatewayProcess, redis_sync, asked: str
):
    wait_until(lambda: Serving(second, serving.engine).models().get(EMBEDDER) == "live")
    async with serving.gateway.client(key.secret) as client, second.client(key.secret) as elsewhere:
        await ask(client, question(asked))
        found = await ask(elsewhere, question(in_other_words(asked)))
        assert kept_questions(redis_sync, key.key) == 1
        await client.delete("/v1/flywheel/cache")
        assert kept_questions(redis_sync, key.key) == 0
        await asyncio.sleep(0.1)
        after = [
            await ask(here, question(text)) for here, text in ((client, in_other_words(asked)), (elsewhere, "Why?"))
        ]

    assert result(found) == "semantic"
    assert [result(answer) for answer in after] == ["miss", "miss"]
    assert redis_sync.hlen(redis_names.cache_places(key.key.tenant)) == 2
    assert 0 < redis_sync.pttl(redis_names.cache_places(key.key.tenant)) <= 7_200_000
