"""The fake engine keeps vLLM's promises, and breaks them when told to."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.fake_engine.process import FakeEngineProcess

CHAT = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Say something."}]}


def post(engine: FakeEngineProcess, **fields: Any) -> httpx.Response:
    return httpx.post(f"{engine.url}/v1/chat/completions", json=CHAT | fields, timeout=2)


def events_of(answer: httpx.Response) -> list[Any]:
    data = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert data.pop() == "[DONE]"
    return [json.loads(event) for event in data]


def test_a_stream_and_a_whole_answer_say_the_same(fake_engine: FakeEngineProcess) -> None:
    whole = post(fake_engine).json()["choices"][0]["message"]["content"]
    events = events_of(post(fake_engine, stream=True))
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == whole
    assert whole == post(fake_engine).json()["choices"][0]["message"]["content"]


def test_the_usage_event_comes_last_and_has_no_choices(fake_engine: FakeEngineProcess) -> None:
    *_, last = events_of(post(fake_engine, stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "total_tokens": 11, "completion_tokens": 8}


def test_max_tokens_cuts_the_answer_short(fake_engine: FakeEngineProcess) -> None:
    answer = post(fake_engine, max_tokens=3).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_prompt_past_the_context_is_refused_as_vllm_does(fake_engine: FakeEngineProcess) -> None:
    answer = post(fake_engine, messages=[{"role": "user", "content": "word " * 3000}])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400
    assert "maximum context length is 2048" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "behaviour",
    [
        {"close_before_headers": True},
        {"close_before_headers": True, "reset": True},
        {"garbage": "head"},
        {"garbage": "body"},
        {"close_after_chunks": 2},
        {"close_in_mid_chunk": 2},
        {"close_in_mid_chunk": 2, "reset": True},
        {"hang": "before_headers"},
        {"hang": "after_headers"},
        {"hang_after_chunks": 1},
    ],
)
def test_a_fault_reaches_the_client(fake_engine: FakeEngineProcess, behaviour: dict[str, Any]) -> None:
    fake_engine.behaviour(**behaviour)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{fake_engine.url}/v1/chat/completions", json=CHAT | {"stream": True}, timeout=0.3)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "behaviour",
    [{"framing": "tiny_chunks"}, {"framing": "close_delimited"}, {"wire_piece_bytes": 7}, {"header_delay_s": 0.01}],
)
def test_unusual_http_is_still_http(fake_engine: FakeEngineProcess, behaviour: dict[str, Any], stream: bool) -> None:
    usual = post(fake_engine, stream=stream).text.split('"choices"')
    fake_engine.behaviour(**behaviour)
    assert post(fake_engine, stream=stream).text.split('"choices"')[-1] == usual[-1]


def test_a_fault_can_be_for_the_next_requests_only(fake_engine: FakeEngineProcess) -> None:
    fake_engine.behaviour(status=503, for_requests=2)
    assert [post(fake_engine).status_code for _ in range(3)] == [503, 503, 200]


def test_time_passes_between_tokens(fake_engine: FakeEngineProcess) -> None:
    fake_engine.behaviour(time_to_first_token_s=0.1, time_between_tokens_s=0.02, tokens=6)
    started = time.monotonic()
    post(fake_engine, stream=True)
    assert 0.2 <= time.monotonic() - started < 0.4


async def test_an_engine_of_bounded_capacity_keeps_the_others_waiting(fake_engine: FakeEngineProcess) -> None:
    fake_engine.behaviour(capacity=1, time_to_first_token_s=0.2)
    url = f"{fake_engine.url}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=5) as client:
        began = time.monotonic()
        first = asyncio.create_task(client.post(url, json=CHAT))
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(url, json=CHAT, timeout=0.05)
        await asyncio.gather(first, client.post(url, json=CHAT))

    assert 0.4 <= time.monotonic() - began < 0.6


async def test_a_client_that_leaves_is_noticed(fake_engine: FakeEngineProcess) -> None:
    fake_engine.behaviour(time_between_tokens_s=0.05, tokens=1000)
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{fake_engine.url}/v1/chat/completions", json=CHAT | {"stream": True}) as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    await asyncio.sleep(0.1)
    (received,) = fake_engine.requests()
    assert received["client_gone"]
    assert 0 < received["chunks_sent"] < 10


def test_adapters_come_and_go(fake_engine: FakeEngineProcess) -> None:
    def change(verb: str, **fields: str) -> int:
        return httpx.post(f"{fake_engine.url}/v1/{verb}_lora_adapter", json={"lora_name": "ft:a", **fields}).status_code

    assert post(fake_engine, model="ft:a").status_code == 404
    assert change("load", lora_path="/a") == 200
    assert change("load", lora_path="/a") == 400
    assert post(fake_engine, model="ft:a").status_code == 200
    assert change("unload") == 200
    assert change("unload") == 404


def test_a_second_engine_is_independent(
    fake_engine: FakeEngineProcess, start_fake_engine: Callable[..., FakeEngineProcess]
) -> None:
    second = start_fake_engine(model="another")
    assert post(second, model="another").status_code == 200
    assert fake_engine.requests() == []
