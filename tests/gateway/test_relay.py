"""The data path: what reaches the engine, what reaches the client, and what happens when either fails."""

import asyncio
import json
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until


def events_of(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def test_a_stream_arrives_token_by_token(serving: Serving):
    serving.engine.behaviour(tokens=5, time_between_tokens_s=0.1)
    arrivals = []
    async with serving.gateway.client() as client:
        async with client.stream("POST", CHAT, json=chat_body(stream=True)) as answer:
            async for _ in answer.aiter_raw():
                arrivals.append(asyncio.get_running_loop().time())

    assert arrivals[-1] - arrivals[0] > 0.3
    assert len(arrivals) >= 5


async def test_usage_is_streamed_only_to_those_who_asked(serving: Serving):
    async with serving.gateway.client() as client:
        plain = await client.post(CHAT, json=chat_body(stream=True))
        asked = await client.post(CHAT, json=chat_body(stream=True, stream_options={"include_usage": True}))
        refused = await client.post(CHAT, json=chat_body(stream=True, stream_options={"include_usage": False}))

    assert all(event["choices"] for event in events_of(plain.text))
    assert events_of(asked.text)[-1]["usage"]["completion_tokens"] == 8
    assert all(event["choices"] for event in events_of(refused.text))
    assert plain.text.endswith("data: [DONE]\n\n")
    sent = [request["body"]["stream_options"] for request in serving.engine.requests()]
    assert sent == [{"include_usage": True}] * 3


async def test_an_unstreamed_body_is_forwarded_byte_for_byte_and_the_key_is_not(serving: Serving):
    body = b'{ "model":"%b",  "messages":[{"role":"user","content":"h\\u00e9"}], "top_k": 5 }' % MODEL.encode()
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as client:
        answer = await client.post(CHAT, content=body, headers={"x-request-id": "my-own-id"})

    received = serving.engine.requests()[0]
    assert answer.status_code == 200
    assert received["body"] == json.loads(body)
    assert key.secret not in json.dumps(received)
    assert received["headers"]["x-request-id"].startswith("my-own-id-")
    assert answer.headers["x-request-id"] == "my-own-id"
    assert received["headers"]["traceparent"].startswith("00-")


async def test_a_client_that_leaves_ends_the_engines_work(serving: Serving):
    serving.engine.behaviour(tokens=1000, time_between_tokens_s=0.05)
    async with serving.gateway.client() as client:
        async with client.stream("POST", CHAT, json=chat_body(stream=True, max_tokens=1000)) as answer:
            async for _ in answer.aiter_raw():
                break

    wait_until(lambda: serving.engine.requests()[0]["client_gone"], timeout_s=2)


async def test_a_client_that_leaves_before_the_first_token_ends_the_engines_work(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=30)
    async with serving.gateway.client(timeout=0.5) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=chat_body())

    wait_until(lambda: serving.engine.requests()[0]["client_gone"], timeout_s=2)


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ({"close_before_headers": True}, 502, "engine_error"),
        ({"garbage": "head"}, 502, "engine_error"),
        ({"garbage": "body"}, 502, "engine_error"),
        ({"close_after_chunks": 20}, 502, "engine_error"),
        ({"status": 500, "body": "Traceback (most recent call last): /usr/lib/secret.py"}, 502, "engine_error"),
        ({"status": 503}, 503, "no_engine_available"),
        ({"status": 404}, 503, "no_engine_available"),
        (
            {"status": 400, "body": {"error": {"message": "bad `top_k` at /root/vllm/engine.py", "code": 400}}},
            400,
            None,
        ),
    ],
)
async def test_an_engine_that_fails_is_an_error_in_openais_shape(
    serving: Serving, behaviour: dict, status: int, code: str | None
):
    serving.engine.behaviour(**behaviour)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body())

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    for insides in ("Traceback", ".py", "127.0.0.1", str(serving.engine.port)):
        assert insides not in answer.text


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__IDLE_TIMEOUT_S": "0.5"}], indirect=True)
@pytest.mark.parametrize("where", ["before_headers", "after_headers"])
async def test_a_silent_engine_is_given_up(serving: Serving, where: str):
    serving.engine.behaviour(hang=where)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body())

    assert answer.status_code in (502, 504)
    assert answer.json()["error"]["code"] in ("engine_timeout", "engine_error")


@pytest.mark.parametrize("behaviour", [{"close_after_chunks": 3}, {"close_in_mid_chunk": 3}, {"error_after_chunks": 3}])
async def test_a_stream_that_breaks_off_ends_with_an_error_event(serving: Serving, behaviour: dict):
    serving.engine.behaviour(**behaviour)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(stream=True))

    errors = [event["error"] for event in events_of(answer.text) if "error" in event]
    assert answer.status_code == 200
    assert [error["code"] for error in errors] == ["engine_error"]


@pytest.mark.parametrize(
    "behaviour",
    [
        {"framing": "close_delimited"},
        {"framing": "tiny_chunks"},
        {"wire_piece_bytes": 7},
        {"framing": "tiny_chunks", "wire_piece_bytes": 3},
        {"close_when_idle": True},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_unusual_framing_changes_nothing_for_the_client(serving: Serving, behaviour: dict, stream: bool):
    async with serving.gateway.client() as client:
        plain = await client.post(CHAT, json=chat_body(stream=stream))
        serving.engine.behaviour(**behaviour)
        answers = [await client.post(CHAT, json=chat_body(stream=stream)) for _ in range(3)]

    def content(text: str) -> str:
        if not stream:
            return json.loads(text)["choices"][0]["message"]["content"]
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in events_of(text))

    assert [content(answer.text) for answer in answers] == [content(plain.text)] * 3


async def test_a_dead_engine_is_passed_over_for_a_living_one(serving: Serving, start_fake_engine, lease):
    second = start_fake_engine()
    lease(second, model=MODEL)
    wait_until(lambda: " 2.0" in metrics_of(serving))
    second.stop()
    async with serving.gateway.client() as client:
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(10)]

    assert {answer.status_code for answer in answers} == {200}


def metrics_of(serving: Serving) -> str:
    text = httpx.get(f"{serving.gateway.url}/metrics").text
    return "\n".join(line for line in text.splitlines() if line.startswith("flywheel_engines"))


async def test_requests_go_to_the_engine_with_the_least_to_do(serving: Serving, start_fake_engine, lease):
    second = start_fake_engine()
    lease(second, model=MODEL)
    wait_until(lambda: " 2.0" in metrics_of(serving))
    for engine in (serving.engine, second):
        engine.behaviour(time_to_first_token_s=0.5)
    async with serving.gateway.client() as client:
        await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(20)))

    assert len(serving.engine.requests()) == 10
    assert len(second.requests()) == 10


async def test_a_draining_engine_gets_nothing_new(serving: Serving, start_fake_engine, lease):
    second = start_fake_engine()
    draining = lease(second, model=MODEL, draining=True)
    wait_until(lambda: " 2.0" in metrics_of(serving))
    async with serving.gateway.client() as client:
        await asyncio.gather(*(client.post(CHAT, json=chat_body(f"Hello {i}")) for i in range(4)))
    lease.end(draining)

    assert second.requests() == []


async def test_no_engine_alive_is_told_at_once(serving: Serving, redis_sync):
    serving.register(redis_sync, model_card("without-engine"))
    wait_until(lambda: "without-engine" in serving.models())
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="without-engine"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_available")
    assert "retry-after" in answer.headers
    assert answer.elapsed.total_seconds() < 1


async def test_a_request_waits_for_an_engine_that_starts_on_demand(
    serving: Serving, start_fake_engine, redis_sync, lease
):
    name = "on-demand-model"
    serving.register(redis_sync, model_card(name, on_demand=True))
    wait_until(lambda: serving.models().get(name) == "on_demand")
    async with serving.gateway.client() as client:
        asked = asyncio.create_task(client.post(CHAT, json=chat_body(model=name)))
        while not redis_sync.sismember("flywheel:engine-requests", name):
            await asyncio.sleep(0.02)
        assert not asked.done()
        engine = await asyncio.to_thread(start_fake_engine, model=name)
        await asyncio.to_thread(lease, engine)
        answer = await asked

    assert answer.status_code == 200
    assert answer.json()["model"] == name


async def test_connections_to_the_engine_are_kept(serving: Serving):
    async with serving.gateway.client() as client:
        for stream in (False, True, False):
            assert (await client.post(CHAT, json=chat_body(stream=stream))).status_code == 200

    assert len({request["client_port"] for request in serving.engine.requests()}) == 1


async def test_a_stream_ends_with_its_last_event_and_its_connection_is_kept(serving: Serving):
    """Clients leave at `[DONE]`: an engine that ends the body later makes no unfinished request of it."""
    serving.engine.behaviour(end_delay_s=0.3)
    before = requests_of(serving)
    async with serving.gateway.client() as client:
        async with client.stream("POST", CHAT, json=chat_body(stream=True)) as answer:
            async for text in answer.aiter_text():
                if text.endswith("data: [DONE]\n\n"):
                    break
        wait_until(lambda: requests_of(serving) != before)
        counted = requests_of(serving) - before
        await asyncio.sleep(0.5)
        await client.post(CHAT, json=chat_body(stream=True))

    assert counted == Counter({"200": 1})
    requests = serving.engine.requests()
    assert not requests[0]["client_gone"]
    assert len({request["client_port"] for request in requests}) == 1


@pytest.mark.parametrize("end_delay_s", [0, 600])
async def test_the_next_request_does_not_wait_for_the_end_of_the_last_body(serving: Serving, end_delay_s: float):
    serving.engine.behaviour(end_delay_s=end_delay_s)
    key = serving.gateway.new_key(concurrency=1)
    async with serving.gateway.client(key.secret) as client:
        answers = [await client.post(CHAT, json=chat_body(stream=True)) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200] * 5
    wait_until(lambda: all(request["finished"] or request["client_gone"] for request in serving.engine.requests()))


def requests_of(serving: Serving) -> Counter[str]:
    """The gateway's chat requests of this model, by status."""
    families = text_string_to_metric_families(httpx.get(f"{serving.gateway.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == "flywheel_requests_total"]
    mine = [sample for sample in samples if sample.labels["model"] == MODEL and sample.labels["route"] == CHAT]
    return Counter({sample.labels["status"]: int(sample.value) for sample in mine})
