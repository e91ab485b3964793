"""An engine's refusal, told to the client in OpenAI's words and without the engine's insides."""

import re

import msgspec

from contracts.errors import ApiError, ContextLengthExceeded, EngineError, InvalidRequest, NoEngineAvailable

MAX_ERROR_BYTES = 64 * 1024
MAX_MESSAGE_LETTERS = 500
RETRY_AFTER_S = 1.0

_CONTEXT_LENGTH = re.compile(r"maximum (?:context|model) length|max_model_len|longer than the maximum", re.IGNORECASE)
_INSIDES = re.compile(r"Traceback|https?://|\.py\b|(?:/[\w.-]+){2,}|0x[0-9a-f]{6,}")


class _EngineErrorBody(msgspec.Struct, frozen=True):
    message: str = ""
    param: str | None = None


class _EngineErrorEnvelope(msgspec.Struct, frozen=True):
    error: _EngineErrorBody = _EngineErrorBody()


def translate(status: int, body: bytes, *, prompt_field: str) -> ApiError:
    """What a client is told of an engine's answer with an error status.

    A 4xx is the client's to mend, so the engine's own words are passed on where they tell nothing of its insides.
    """
    detail = _decode(body)
    if status in (429, 503):
        return NoEngineAvailable("The engines are busy. Try again shortly.", retry_after_s=RETRY_AFTER_S)
    if not 400 <= status < 500 or status in (401, 403, 404, 405):
        return EngineError("The engine failed to answer the request.")
    message = _presentable(detail.message)
    if _CONTEXT_LENGTH.search(detail.message):
        return ContextLengthExceeded(
            message or "The prompt is longer than the model's context length.", param=prompt_field
        )
    return InvalidRequest(message or "The engine refused the request as invalid.", param=detail.param)


def _decode(body: bytes) -> _EngineErrorBody:
    try:
        return msgspec.json.decode(body, type=_EngineErrorEnvelope).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _EngineErrorBody()


def _presentable(message: str) -> str:
    first_line = message.strip().partition("\n")[0][:MAX_MESSAGE_LETTERS]
    return "" if _INSIDES.search(first_line) else first_line
