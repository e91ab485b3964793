"""From bytes to a typed request, or to an error that names the field."""

import re
from typing import TypeVar

import msgspec

from contracts.errors import (
    InvalidRequest,
    InvalidType,
    InvalidValue,
    MalformedJson,
    MissingParameter,
    UnknownParameter,
)
from contracts.models import ModelCard
from contracts.openai import DataPathRequest, PoolingRequest

DEFAULT_COMPLETION_TOKENS = 512
"""Reserved for an answer whose length the client did not bound."""
BYTES_PER_TOKEN = 4

_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `(?P<field>[^`]*)`")
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_WRONG_TYPE = re.compile(r"^Expected `[^`]*`, got `")

Request = TypeVar("Request", bound=DataPathRequest)


def decode_request(body: bytes, decoder: msgspec.json.Decoder[Request]) -> Request:
    """Raises MalformedJson, MissingParameter, UnknownParameter, InvalidType or InvalidValue."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedJson("The body is not valid JSON.") from None


def check_length(request: DataPathRequest, card: ModelCard) -> None:
    """Refuses at once what the model cannot do. The engine, which counts tokens, has the last word on prompts."""
    for name in ("max_tokens", "max_completion_tokens"):
        asked = getattr(request, name, None)
        if asked is not None and asked > card.context_length:
            raise InvalidValue(
                f"`{name}` is too large: {asked}. The model's context length is {card.context_length} tokens.",
                param=name,
            )


def estimate_tokens(request: DataPathRequest, body: bytes, card: ModelCard) -> tuple[int, int]:
    """Prompt and completion tokens to reserve: about a token for four bytes, and the longest answer asked for."""
    prompt = min(len(body) // BYTES_PER_TOKEN + 1, card.context_length)
    if isinstance(request, PoolingRequest):
        return prompt, 0
    longest = request.max_tokens or getattr(request, "max_completion_tokens", None) or DEFAULT_COMPLETION_TOKENS
    return prompt, min(longest, card.context_length) * (request.n or 1)


def ask_engine_for(body: bytes, *, usage: bool, token_ids: bool) -> bytes:
    """The body of a streamed request, changed so that the engine states the usage at the end, or each token's id."""
    added = b',"return_token_ids":true' if token_ids else b""
    if usage and b'"stream_options"' in body:
        document = msgspec.json.decode(body)
        document["stream_options"] = {**(document.get("stream_options") or {}), "include_usage": True}
        body = msgspec.json.encode(document)
    elif usage:
        added += b',"stream_options":{"include_usage":true}'
    return body.rstrip()[:-1] + added + b"}" if added else body


def without_priority(body: bytes) -> bytes:
    """The body without `priority`, which the gateway's queue acts on. vLLM refuses it, or counts it between tenants."""
    document = msgspec.json.decode(body)
    document.pop("priority", None)
    return msgspec.json.encode(document)


def rename_model(body: bytes, model: str) -> bytes:
    """The same request for another model."""
    document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    document["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(document)


def _explain(reason: str) -> InvalidRequest:
    place = _PLACE.search(reason)
    path = place["path"] if place else ""
    text = _PLACE.sub("", reason)
    if unknown := _UNKNOWN_FIELD.search(text):
        name = _join(path, unknown["field"])
        return UnknownParameter(f"Unknown parameter: `{name}`.", param=name)
    if missing := _MISSING_FIELD.search(text):
        name = _join(path, missing["field"])
        return MissingParameter(f"Missing required parameter: `{name}`.", param=name)
    where = f"`{path}`" if path else "the body"
    kind = InvalidType if _WRONG_TYPE.match(text) else InvalidValue
    return kind(f"Invalid value for {where}: {text[0].lower()}{text[1:]}.", param=path or None)


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
