"""Every mistake has its status and its code, names its field, and reaches no engine."""

import json

import httpx
import pytest

from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until

EMBEDDER = "fake-embedder"


@pytest.fixture
def both(serving: Serving, redis_sync) -> Serving:
    serving.register(redis_sync, model_card(EMBEDDER, task="embed"))
    wait_until(lambda: EMBEDDER in serving.models())
    return serving


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (CHAT, b"{", 400, "invalid_json", None),
        (CHAT, b"", 400, "invalid_json", None),
        (CHAT, b"\xff\xfe", 400, "invalid_json", None),
        (CHAT, b"[1]", 400, "invalid_type", None),
        (CHAT, b'"text"', 400, "invalid_type", None),
        (CHAT, {"messages": [{"role": "user", "content": "a"}]}, 400, "missing_required_parameter", "model"),
        (CHAT, {"model": MODEL}, 400, "missing_required_parameter", "messages"),
        (CHAT, chat_body(temperatur=1), 400, "unknown_parameter", "temperatur"),
        (CHAT, chat_body(chat_template="{{ x }}"), 400, "unknown_parameter", "chat_template"),
        (CHAT, chat_body(temperature="hot"), 400, "invalid_type", "temperature"),
        (CHAT, chat_body(temperature=3), 400, "invalid_value", "temperature"),
        (CHAT, chat_body(max_tokens=-1), 400, "invalid_value", "max_tokens"),
        (CHAT, chat_body(max_tokens=0), 400, "invalid_value", "max_tokens"),
        (CHAT, chat_body(max_tokens=10**9), 400, "invalid_value", "max_tokens"),
        (CHAT, chat_body(max_tokens=10**30), 400, None, "max_tokens"),
        (CHAT, chat_body(max_completion_tokens=10**9), 400, "invalid_value", "max_completion_tokens"),
        (CHAT, chat_body(n=0), 400, "invalid_value", "n"),
        (CHAT, chat_body(n=10_000), 400, "invalid_value", "n"),
        (CHAT, chat_body(stream="yes"), 400, "invalid_type", "stream"),
        (CHAT, {**chat_body(), "messages": []}, 400, "invalid_value", "messages"),
        (CHAT, {**chat_body(), "messages": "hello"}, 400, "invalid_type", "messages"),
        (
            CHAT,
            {**chat_body(), "messages": [{"role": "king", "content": "a"}]},
            400,
            "invalid_value",
            "messages[0].role",
        ),
        (CHAT, {**chat_body(), "messages": [{"content": "a"}]}, 400, "missing_required_parameter", "messages[0].role"),
        (
            CHAT,
            chat_body(stream=True, stream_options={"usage": True}),
            400,
            "unknown_parameter",
            "stream_options.usage",
        ),
        (CHAT, chat_body(model="no-such-model"), 404, "model_not_found", "model"),
        (CHAT, chat_body(model=EMBEDDER), 400, "invalid_value", "model"),
        ("/v1/completions", {"model": MODEL}, 400, "missing_required_parameter", "prompt"),
        ("/v1/completions", {"model": MODEL, "prompt": 7}, 400, "invalid_type", "prompt"),
        ("/v1/embeddings", {"model": EMBEDDER}, 400, "missing_required_parameter", "input"),
        ("/v1/embeddings", {"model": MODEL, "input": "a"}, 400, "invalid_value", "model"),
        ("/v1/fine_tuning/jobs", b"{", 400, "invalid_json", None),
        ("/v1/fine_tuning/jobs", {"model": MODEL}, 400, "missing_required_parameter", "training_file"),
        (
            "/v1/fine_tuning/jobs",
            {"model": MODEL, "training_file": "x", "epochs": 3},
            400,
            "unknown_parameter",
            "epochs",
        ),
        ("/v1/fine_tuning/jobs", {"model": MODEL, "training_file": "file-x"}, 400, "invalid_value", "training_file"),
        ("/v1/fine_tuning/jobs", {"model": "none", "training_file": "file-x"}, 404, "model_not_found", "model"),
        (
            "/v1/fine_tuning/jobs",
            {"model": MODEL, "training_file": "file-x", "hyperparameters": {"n_epochs": -1}},
            400,
            "invalid_value",
            None,
        ),
        (
            "/v1/fine_tuning/jobs",
            {"model": MODEL, "training_file": "file-x", "suffix": "../etc"},
            400,
            "invalid_value",
            "suffix",
        ),
    ],
)
async def test_a_mistake_in_the_body_is_named(
    both: Serving, path: str, body: bytes | dict, status: int, code: str | None, param: str | None
):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with both.gateway.client() as client:
        answer = await client.post(path, content=content, headers={"content-type": "application/json"})

    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if code is not None:
        assert (error["code"], error["param"]) == (code, param or error["param"])
    assert "Traceback" not in answer.text
    assert "/work" not in answer.text
    assert "x-request-id" in answer.headers
    assert both.engine.requests() == []


async def test_too_long_a_prompt_is_told_in_openais_words(serving: Serving):
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body("word " * 5000))

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert answer.json()["error"]["param"] == "messages"


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__MAX_BODY_BYTES": "5000"}], indirect=True)
@pytest.mark.parametrize("path", [CHAT, "/v1/fine_tuning/jobs"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(serving: Serving, path: str, declared: bool):
    body = json.dumps(chat_body("x" * 10_000)).encode()

    async def pieces():
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with serving.gateway.client() as client:
        answer = await client.post(path, content=body if declared else pieces())

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_routes_and_methods_have_openais_shape_too(serving: Serving):
    unknown = httpx.get(f"{serving.gateway.base_url}/nothing/here")
    wrong_method = httpx.get(serving.gateway.url + CHAT)

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")
    assert (wrong_method.status_code, wrong_method.json()["error"]["code"]) == (405, "method_not_allowed")
