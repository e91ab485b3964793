from typing import Any

import msgspec
import pytest

from contracts.openai import ChatCompletionRequest, CompletionRequest, EmbeddingRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chat(**fields: Any) -> ChatCompletionRequest:
    return msgspec.json.decode(msgspec.json.encode(CHAT | fields), type=ChatCompletionRequest)


def test_a_request_of_the_sdk_is_understood() -> None:
    request = chat(temperature=0, max_tokens=5, stop=["\n"], stream=True, stream_options={"include_usage": True})
    assert request.stream_options is not None
    assert request.stream_options.include_usage


def test_a_message_keeps_room_for_what_the_gateway_does_not_look_at() -> None:
    parts = [{"type": "text", "text": "Hi"}]
    assert chat(messages=[{"role": "user", "content": parts, "name": "ann"}]).messages[0].content == parts


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"temperatur": 1}, "temperatur"),
        ({"temperature": 2.1}, r"\$\.temperature"),
        ({"temperature": "hot"}, r"\$\.temperature"),
        ({"max_tokens": -1}, r"\$\.max_tokens"),
        ({"max_tokens": 0}, r"\$\.max_tokens"),
        ({"max_tokens": 1.5}, r"\$\.max_tokens"),
        ({"n": 129}, r"\$\.n"),
        ({"messages": []}, r"\$\.messages"),
        ({"messages": [{"role": "king", "content": "Hi"}]}, r"\$\.messages\[0\]\.role"),
        ({"stream": "yes"}, r"\$\.stream"),
        ({"stream_options": {"usage": True}}, "usage"),
        ({"stop": ["x"] * 17}, r"\$\.stop"),
        ({"top_logprobs": 21}, r"\$\.top_logprobs"),
        ({"model": None}, r"\$\.model"),
    ],
)
def test_a_wrong_field_is_refused_and_named(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=where):
        chat(**fields)


@pytest.mark.parametrize("prompt", ["text", ["one", "two"], [1, 2, 3], [[1, 2], [3]]])
def test_every_form_of_a_prompt_is_understood(prompt: Any) -> None:
    raw = msgspec.json.encode({"model": "m", "prompt": prompt, "input": prompt})
    fields = msgspec.json.decode(raw)
    del fields["input"]
    assert msgspec.convert(fields, CompletionRequest).prompt == prompt
    assert msgspec.convert({"model": "m", "input": prompt}, EmbeddingRequest).input == prompt


def test_encoding_leaves_out_what_was_not_said() -> None:
    assert msgspec.json.decode(msgspec.json.encode(chat(seed=3))) == CHAT | {"seed": 3}
