"""The OpenAI SDK against the real stack."""

import json
import time

import openai
import pytest
from openai import OpenAI

from tests.end_to_end.conftest import EMBEDDING_MODEL, SLOW_S, TEXT_MODEL, Stack, wait_for

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]
QUESTION = [{"role": "user", "content": "Name the capital of France."}]
"""No token of the answer has another close behind it, so that CPUs that round in other ways agree."""


def test_a_chat_completion_answers(client: OpenAI):
    answer = client.chat.completions.create(model=TEXT_MODEL, messages=QUESTION, temperature=0, max_tokens=20)

    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert answer.model == TEXT_MODEL


def test_a_stream_arrives_in_pieces_and_says_the_same(client: OpenAI):
    options = {"model": TEXT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 20}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True))

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 3
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_states_its_usage_when_asked(client: OpenAI):
    chunks = list(
        client.chat.completions.create(
            model=TEXT_MODEL,
            messages=QUESTION,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].choices == []


def test_a_completion_answers_whole_and_streamed(client: OpenAI):
    options = {"model": TEXT_MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}
    whole = client.completions.create(**options)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True))

    assert whole.choices[0].text == streamed
    assert whole.usage.completion_tokens == 12


def test_a_json_schema_is_kept(client: OpenAI):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
        "required": ["city", "large"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=TEXT_MODEL,
        messages=[{"role": "user", "content": "Name a city."}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
        max_tokens=60,
        temperature=0,
    )

    assert set(json.loads(answer.choices[0].message.content)) == {"city", "large"}


def test_embeddings_start_their_engine_on_demand_and_know_what_is_alike(client: OpenAI):
    assert client.models.retrieve(EMBEDDING_MODEL).state in ("on_demand", "live")
    answer = client.embeddings.create(
        model=EMBEDDING_MODEL, input=["A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell on Monday."]
    )
    cat, kitten, stocks = (item.embedding for item in answer.data)

    def similarity(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert len(cat) == 384
    assert similarity(cat, kitten) > similarity(cat, stocks) + 0.2


def test_a_question_in_other_words_gets_the_kept_answer(stack: Stack, client: OpenAI):
    client.embeddings.create(model=EMBEDDING_MODEL, input="its engine starts on demand")
    asking = stack.client(stack.new_key("--semantic-cache")[1])

    def ask(text: str) -> tuple[str, str | None, bytes]:
        raw = asking.chat.completions.with_raw_response.create(
            model=TEXT_MODEL, messages=[{"role": "user", "content": text}], temperature=0, max_tokens=8
        )
        time.sleep(0.2)
        return raw.headers["x-flywheel-cache"], raw.headers.get("x-flywheel-cache-similarity"), raw.content

    first, _, kept = ask("How do I block a contact?")
    similar, similarity, replayed = ask("How can I block a contact?")
    opposite, _, _ = ask("How do I unblock a contact?")

    assert (first, similar, opposite) == ("miss", "semantic", "miss")
    assert replayed == kept
    assert 0.9 <= float(similarity) < 1


def test_models_are_listed_and_retrieved(client: OpenAI):
    listed = {model.id: model for model in client.models.list()}

    assert {TEXT_MODEL, EMBEDDING_MODEL} <= set(listed)
    assert client.models.retrieve(TEXT_MODEL).id == TEXT_MODEL
    assert listed[TEXT_MODEL].state == "live"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("no-such-model")
    assert raised.value.code == "model_not_found"


def test_a_repeat_comes_from_the_cache_byte_for_byte(client: OpenAI):
    def ask() -> tuple[str, bytes, float]:
        started_at = time.perf_counter()
        raw = client.chat.completions.with_raw_response.create(
            model=TEXT_MODEL, messages=QUESTION, temperature=0, max_tokens=21
        )
        return raw.headers["x-flywheel-cache"], raw.content, time.perf_counter() - started_at

    first, first_body, _ = ask()
    time.sleep(0.2)
    second, second_body, second_s = ask()

    assert (first, second) == ("miss", "hit")
    assert first_body == second_body
    assert second_s < 0.5


def test_a_limit_is_hit_in_openais_words(stack: Stack):
    _, secret = stack.new_key("--rpm", "2")
    client = stack.client(secret)
    for _ in range(2):
        client.chat.completions.create(model=TEXT_MODEL, messages=QUESTION, max_tokens=1)
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=TEXT_MODEL, messages=QUESTION, max_tokens=1)

    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.response.headers["x-ratelimit-limit-requests"] == "2"
    assert int(raised.value.response.headers["retry-after"]) > 0


def test_a_revoked_key_is_refused_within_a_second(stack: Stack):
    key_id, secret = stack.new_key()
    client = stack.client(secret)
    client.models.list()
    assert key_id in stack.flywheel("keys", "list")

    stack.flywheel("keys", "revoke", key_id)
    time.sleep(0.9)

    with pytest.raises(openai.AuthenticationError) as raised:
        client.models.list()
    assert raised.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"messages": [{"role": "user", "content": "word " * 4000}]}, 400, "context_length_exceeded"),
        ({"max_tokens": 10**9}, 400, "invalid_value"),
        ({"max_tokens": -1}, 400, "invalid_value"),
        ({"model": "gpt-5"}, 404, "model_not_found"),
        ({"extra_body": {"temperatur": 1}}, 400, "unknown_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
            400,
            None,
        ),
    ],
)
def test_mistakes_are_told_in_openais_shape(client: OpenAI, options: dict, status: int, code: str | None):
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(**{"model": TEXT_MODEL, "messages": QUESTION, "max_tokens": 5, **options})

    assert raised.value.status_code == status
    if code is not None:
        assert raised.value.code == code
    for insides in ("Traceback", ".py", "site-packages", "127.0.0.1"):
        assert insides not in raised.value.response.text


def test_a_client_that_leaves_frees_the_engine(stack: Stack, client: OpenAI):
    def running() -> float:
        return sum(
            float(line.split()[-1]) for line in stack.metrics().splitlines() if line.startswith("flywheel_in_flight")
        )

    stream = client.chat.completions.create(
        model=TEXT_MODEL,
        messages=[{"role": "user", "content": "Count from 1 to 1000."}],
        max_tokens=1500,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    assert running() == 1
    stream.close()

    wait_for(lambda: running() == 0, timeout_s=3, what="the engine is free")
    assert 'status="499"' in stack.metrics()


def test_a_request_can_be_followed_from_the_gateway_into_the_engine(stack: Stack, client: OpenAI):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    client.chat.completions.create(
        model=TEXT_MODEL,
        messages=QUESTION,
        max_tokens=3,
        extra_headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    )

    wait_for(
        lambda: {"flywheel-gateway", "flywheel-engine"} <= stack.traces.services_of(trace_id),
        timeout_s=20,
        what="spans of gateway and engine",
    )
    span = next(s for s in stack.traces.spans if s.trace_id == trace_id and s.service == "flywheel-gateway")
    assert span.name == f"chat {TEXT_MODEL}"
    assert span.attributes["gen_ai.request.model"] == TEXT_MODEL


def test_a_real_engines_answer_is_captured_redacted_and_its_id_tells_feedback_the_model(stack: Stack):
    """vLLM makes the id of an answer of the id that it is sent; feedback relies on it."""
    _, secret = stack.new_key("--capture", "1")
    question = {"role": "user", "content": "Say hello to anna@example.com."}
    with stack.client(secret) as own:
        whole = own.chat.completions.create(model=TEXT_MODEL, messages=[question], max_tokens=8, temperature=0.5)
        stream = own.chat.completions.create(
            model=TEXT_MODEL, messages=[question], max_tokens=8, temperature=0.5, stream=True
        )
        streamed = {chunk.id for chunk in stream}.pop()
        completed = own.completions.create(model=TEXT_MODEL, prompt="Hello", max_tokens=4, temperature=0.5)
        for response_id in (whole.id, streamed, completed.id):
            judged = own.post("/feedback", cast_to=object, body={"response_id": response_id, "rating": "up"})
            assert judged["model"] == TEXT_MODEL
        wanted = {"params": {"response_id": whole.id}}
        wait_for(
            lambda: own.get("/flywheel/captures", cast_to=object, options=wanted)["data"],
            timeout_s=20,
            what="the answer is captured",
        )
        (captured,) = own.get("/flywheel/captures", cast_to=object, options=wanted)["data"]
    assert captured["messages"][0]["content"] == "Say hello to [EMAIL]."
    assert captured["answer"] == whole.choices[0].message.content
    assert captured["feedback"]["rating"] == "up"
