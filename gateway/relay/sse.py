"""Server-sent events of a streamed answer (WHATWG HTML, 9.2), as far as the gateway must look into them.

Chunks pass through untouched unless one of two rare events has to be changed on the way. Both are found by a
search for bytes that cannot stand inside a JSON string, where each quote would be escaped.
"""

import re

import msgspec

from contracts.errors import ApiError, EngineError
from gateway.relay.transcript import Transcript
from gateway.relay.upstream import StreamBroken

EVENT_END = b"\n\n"
_NO_CHOICES = b'"choices":[]'
_USAGE = b'"usage":{'
ENGINE_ERROR = b'data: {"error"'
DONE = b"data: [DONE]"
END_OF_STREAM = DONE + EVENT_END
USAGE_TAIL_BYTES = 4096
_BRACES = re.compile(rb"[{}]")


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a request used. Embeddings have no completion tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    total_tokens: int = 0


class UsageTail:
    """Finds the usage that an engine states at the end of an answer, streamed or not, by its last bytes.

    Of these it keeps no more than what may be a statement of usage, since thousands of streams are open.
    """

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        seen = (self._tail + chunk[-USAGE_TAIL_BYTES:])[-USAGE_TAIL_BYTES:]
        start = seen.rfind(_USAGE)
        self._tail = seen[start:] if start >= 0 else seen[1 - len(_USAGE) :]

    def usage(self) -> Usage | None:
        if not self._tail.startswith(_USAGE):
            return None
        text = self._tail[len(_USAGE) - 1 :]
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

    With a transcript it writes down what was told. It is then `broken` once an event said that the engine gave up.
    `over` is for those that end a stream before its engine does.
    """

    def __init__(self, *, hide_usage: bool, transcript: Transcript | None = None) -> None:
        self._hide_usage = hide_usage
        self._transcript = transcript
        self._tail = UsageTail()
        self._partial = b""
        self._done = False
        self.over = False
        self.broken = False
        self.failed = False

    @property
    def usage(self) -> Usage:
        return self._tail.usage() or Usage()

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent on now. At most one incomplete event is held back."""
        self._tail.feed(chunk)
        if self._transcript is None and not self._partial and chunk.endswith(EVENT_END) and not self._suspicious(chunk):
            return chunk
        *events, self._partial = (self._partial + chunk).split(EVENT_END)
        passed = []
        for event in events:
            if self._hidden(event):
                continue
            try:
                passed += [self._pass(event), EVENT_END]
            except StreamBroken:
                self.broken = True
                break
        return b"".join(passed)

    def finish(self) -> bytes:
        """What is left when the answer has ended. Raises StreamBroken where it was not whole."""
        rest, self._partial = self._partial, b""
        if self._transcript is not None and not self._done:
            raise StreamBroken
        return b"" if not rest or self._hidden(rest) else self._pass(rest)

    def _suspicious(self, chunk: bytes) -> bool:
        return ENGINE_ERROR in chunk or (self._hide_usage and _NO_CHOICES in chunk)

    def _hidden(self, event: bytes) -> bool:
        return self._hide_usage and _NO_CHOICES in event and _USAGE in event

    def _pass(self, event: bytes) -> bytes:
        if event.startswith(ENGINE_ERROR):
            if self._transcript is not None:
                raise StreamBroken
            self.failed = True
            return error_event(EngineError("The engine failed in the middle of its answer.")).removesuffix(EVENT_END)
        if self._transcript is None:
            return event
        self._done = self._done or event.startswith(DONE)
        return self._transcript.note(event)


def error_event(error: ApiError) -> bytes:
    """An error in the middle of a stream, as OpenAI's SDKs understand it."""
    return b"data: " + error.envelope().model_dump_json().encode() + EVENT_END


def _end_of_object(text: bytes) -> int | None:
    """Length of the JSON object that `text` starts with. Usage objects hold no strings with braces."""
    depth = 0
    for brace in _BRACES.finditer(text):
        depth += 1 if brace[0] == b"{" else -1
        if depth == 0:
            return brace.end()
    return None
