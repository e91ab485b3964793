"""An engine dies in the middle of a stream, and the client does not notice."""

import json
import random
from dataclasses import dataclass

import httpx
import pytest

from gateway.relay.continuation import ContinuedEvents
from gateway.relay.sse import EventFilter
from gateway.relay.transcript import Transcript
from gateway.relay.upstream import StreamBroken
from tests.fake_engine import answers
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, wait_until

COMPLETIONS = "/v1/completions"
TOKENS = 60


@dataclass(frozen=True)
class Told:
    """What a client has read of a stream."""

    text: str
    finish_reasons: list[str]
    ids: set[str]
    usage: dict[str, int] | None
    objects: set[str]
    last: str


def read(body: bytes) -> Told:
    events = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    chunks = [json.loads(event) for event in events if event.startswith("{")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert all(choice.get("token_ids") is None for choice in choices), "token ids that nobody asked for"
    return Told(
        "".join(choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices),
        [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        {chunk["id"] for chunk in chunks},
        next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None),
        {chunk["object"] for chunk in chunks},
        events[-1],
    )


@pytest.fixture
def spare(start_fake_engine, lease, serving: Serving) -> FakeEngineProcess:
    """A second engine."""
    engine = start_fake_engine()
    lease(engine, model=MODEL)
    wait_until(lambda: f'{{model="{MODEL}"}} 2.0' in httpx.get(f"{serving.gateway.url}/metrics").text)
    return engine


async def ask(serving: Serving, path: str = CHAT, **fields: object) -> Told:
    body = chat_body(stream=True, max_tokens=TOKENS) if path == CHAT else {"model": MODEL, "prompt": "Once upon a time"}
    body |= {"stream": True, "max_tokens": TOKENS, **fields}
    async with serving.gateway.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return read(answer.content)


@pytest.mark.parametrize("fault", ["close_after_chunks", "close_in_mid_chunk", "error_after_chunks"])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("after", [0, 1, 7, 59])
async def test_the_stream_goes_on_from_another_engine(
    serving: Serving, spare: FakeEngineProcess, fault: str, path: str, after: int
):
    for engine in (serving.engine, spare):
        engine.behaviour(tokens=TOKENS)
    whole = await ask(serving, path, stream_options={"include_usage": True})
    serving.engine.reset()
    serving.engine.behaviour(tokens=TOKENS, **{fault: after})
    while not serving.engine.requests():  # the other one may be asked first
        continued = await ask(serving, path, stream_options={"include_usage": True})

    assert continued.text == whole.text
    assert (continued.finish_reasons, continued.last) == (whole.finish_reasons, "[DONE]")
    assert continued.objects == whole.objects
    assert len(continued.ids) == 1
    assert continued.usage is not None
    assert continued.usage["completion_tokens"] == TOKENS


async def test_where_no_engine_is_left_the_stream_ends_with_an_error(serving: Serving):
    serving.engine.behaviour(tokens=TOKENS, close_after_chunks=5)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(stream=True, max_tokens=TOKENS))

    assert b'"error":{"message":"The engine failed in the middle of its answer."' in answer.content


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}])
async def test_what_cannot_be_continued_is_not_asked_for_ids_and_breaks_off_plainly(
    serving: Serving, spare: FakeEngineProcess, fields: dict[str, object]
):
    for engine in (serving.engine, spare):
        engine.behaviour(tokens=TOKENS, close_after_chunks=5)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(stream=True, max_tokens=TOKENS, **fields))

    assert b'"error"' in answer.content
    received = [*serving.engine.requests(), *spare.requests()]
    assert "return_token_ids" not in received[0]["body"]


def broken_stream(body: dict[str, object], path: str, rng: random.Random, *, silent: bool) -> bytes:
    """What a client reads when every engine dies after some random bytes, the last one excepted."""
    chat = path == CHAT
    request = {**body, "return_token_ids": True, "stream_options": {"include_usage": True}}
    lag = max((len(word) for word in body.get("stop", [])), default=1) - 1
    transcript = Transcript(lag)
    events: EventFilter | ContinuedEvents = EventFilter(hide_usage=False, transcript=transcript)
    sent = b""
    for attempt in range(4):
        kind = "chat" if chat and isinstance(events, EventFilter) else "text"
        answer = answers.answer_to(kind, request, tokens=TOKENS, token_bytes=None, silent_tokens=silent)
        stream = b"".join(answers.events(answer))
        cut = len(stream) if attempt == 3 else rng.randrange(len(stream))
        at = 0
        while at < cut:
            piece = min(rng.randint(1, 900), cut - at)
            sent += events.feed(stream[at : at + piece])
            at += piece
        try:
            return sent + events.finish()
        except StreamBroken:
            pass
        events = ContinuedEvents(transcript, chat=chat, hide_usage=False) if transcript.begun else events
        if not transcript.begun:
            events = EventFilter(hide_usage=False, transcript=transcript)
            continue
        if transcript.finish_reason is not None:
            return sent + events.finish()
        request = {
            "model": MODEL,
            "prompt": [*transcript.prompt, *transcript.tokens],
            "max_tokens": TOKENS - len(transcript.tokens),
            "stop": body.get("stop"),
            "return_token_ids": True,
        }
    raise AssertionError("the last engine did not end the stream")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("stop", [[], ["never said"]])
def test_a_thousand_random_cuts_leave_no_trace(path: str, stop: list[str], *, silent: bool):
    rng = random.Random(f"{path}{stop}{silent}")
    body: dict[str, object] = {"model": MODEL, "max_tokens": TOKENS, "stop": stop}
    body |= {"messages": [{"role": "user", "content": "Hello"}]} if path == CHAT else {"prompt": "Hello"}
    kind = "chat" if path == CHAT else "text"
    whole = read(b"".join(answers.events(answers.answer_to(kind, body, tokens=TOKENS, token_bytes=None))))
    for _ in range(250):
        continued = read(broken_stream(body, path, rng, silent=silent))
        assert continued.text == whole.text
        assert continued.finish_reasons == whole.finish_reasons
        assert continued.last == "[DONE]"
