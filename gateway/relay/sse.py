"""Server-sent events of a streamed answer (WHATWG HTML, 9.2), as far as the gateway must look into them.

Chunks pass through untouched unless one of two rare events has to be changed on the way. Both are found by a
search for bytes that cannot stand inside a JSON string, where each quote would be escaped.
"""

import msgspec

from contracts.errors import ApiError, EngineError

_EVENT_END = b"\n\n"
_NO_CHOICES = b'"choices":[]'
_USAGE = b'"usage":{'
_ENGINE_ERROR = b'data: {"error"'
USAGE_TAIL_BYTES = 4096


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a request used. Embeddings have no completion tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    total_tokens: int = 0


class UsageTail:
    """Finds the usage that an engine states at the end of an answer, streamed or not, by its last bytes."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._tail = chunk if len(chunk) >= USAGE_TAIL_BYTES else (self._tail + chunk)[-USAGE_TAIL_BYTES:]

    def usage(self) -> Usage | None:
        start = self._tail.rfind(_USAGE)
        if start < 0:
            return None
        text = self._tail[start + len(_USAGE) - 1 :]
        depth_zero = _end_of_object(text)
        if depth_zero is None:
            return None
        try:
            return msgspec.json.decode(text[:depth_zero], type=Usage)
        except msgspec.DecodeError:
            return None


class EventFilter:
    """Passes events on, and drops or replaces those that a client must not see.

    - The usage event, when the client did not ask for usage and the gateway did.
    - An error event of the engine, whose text may tell of its insides.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._partial = b""
        self.failed = False

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent on now. At most one incomplete event is held back."""
        if not self._partial and chunk.endswith(_EVENT_END) and not self._suspicious(chunk):
            return chunk
        *events, self._partial = (self._partial + chunk).split(_EVENT_END)
        return b"".join(self._pass(event) + _EVENT_END for event in events if not self._hidden(event))

    def finish(self) -> bytes:
        """What is left when the answer has ended."""
        rest, self._partial = self._partial, b""
        return b"" if not rest or self._hidden(rest) else self._pass(rest)

    def _suspicious(self, chunk: bytes) -> bool:
        return _ENGINE_ERROR in chunk or (self._hide_usage and _NO_CHOICES in chunk)

    def _hidden(self, event: bytes) -> bool:
        return self._hide_usage and _NO_CHOICES in event and _USAGE in event

    def _pass(self, event: bytes) -> bytes:
        if not event.startswith(_ENGINE_ERROR):
            return event
        self.failed = True
        return error_event(EngineError("The engine failed in the middle of its answer.")).removesuffix(_EVENT_END)


def error_event(error: ApiError) -> bytes:
    """An error in the middle of a stream, as OpenAI's SDKs understand it."""
    return b"data: " + error.envelope().model_dump_json().encode() + _EVENT_END


def _end_of_object(text: bytes) -> int | None:
    """Length of the JSON object that `text` starts with. Usage objects hold no strings with braces."""
    depth = 0
    for position, byte in enumerate(text):
        if byte == 0x7B:
            depth += 1
        elif byte == 0x7D:
            depth -= 1
            if depth == 0:
                return position + 1
    return None
