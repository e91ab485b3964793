"""The way back: an engine's answer goes to the client as it comes, and a copy is kept where it may repeat."""

from collections.abc import Awaitable, Callable

from contracts.errors import ApiError, EngineError
from gateway.cache.kept import KeptAnswer
from gateway.guardrails.answers import MOST_WHOLE_BYTES, AnswerGuard
from gateway.relay.answering import Answering, Events
from gateway.relay.exchange import Exchange, HeaderList
from gateway.relay.record import Progress
from gateway.relay.sse import END_OF_STREAM, Usage, UsageTail, error_event
from gateway.relay.upstream import StreamBroken, UpstreamError, UpstreamResponse

EVENT_STREAM = b"text/event-stream"
MAX_HELD_BYTES = 1 << 20
"""A whole answer up to this size is held until it is complete, so that one which breaks off is a clean error."""


class AnswerCopy:
    """A copy of what the client gets, given up when it grows past its bound."""

    def __init__(self, max_bytes: int) -> None:
        self._body: bytearray | None = bytearray() if max_bytes > 0 else None
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> None:
        if self._body is not None:
            self._body += chunk
            if len(self._body) > self._max_bytes:
                self._body = None

    def discard(self) -> None:
        self._body = None

    def answer(self, content_type: bytes) -> KeptAnswer | None:
        return None if self._body is None else KeptAnswer(content_type, bytes(self._body))


async def pass_on(
    exchange: Exchange,
    progress: Progress,
    response: UpstreamResponse,
    answering: Answering,
    *,
    max_copy_bytes: int,
) -> KeptAnswer | None:
    """Relays a successful answer and returns what may be kept of it.

    Where a stream breaks off, another engine goes on with it if it can. Raises UpstreamError where the answer breaks
    off for good and the client has not seen any of it. A stream that breaks off later ends with an error event; a
    whole answer that does ends the connection. Where the answer is guarded, that is what is sent and kept.
    """
    content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
    copy = AnswerCopy(max_copy_bytes)
    if content_type.startswith(EVENT_STREAM):
        await _pass_on_stream(exchange, progress, response, copy, content_type, answering)
    elif answering.guard is not None:
        await _pass_on_guarded(exchange, progress, response, copy, content_type, answering.guard)
    else:
        await _pass_on_whole(exchange, progress, response, copy, content_type)
    return copy.answer(content_type)


async def _pass_on_stream(
    exchange: Exchange,
    progress: Progress,
    response: UpstreamResponse,
    copy: AnswerCopy,
    content_type: bytes,
    answering: Answering,
) -> None:
    headers: HeaderList = [(b"content-type", content_type), (b"cache-control", b"no-cache")]
    source: UpstreamResponse | None = response
    events = answering.events()

    async def tell(passed: bytes) -> bool:
        """Whether that was the end: clients leave at it, and the engine's end of the body may come later."""
        if progress.first_byte_s is None:
            progress.first_byte_s = exchange.elapsed_s()
            await exchange.start(200, headers)
        copy.feed(passed)
        ends = passed.endswith(END_OF_STREAM)
        await (exchange.finish(passed) if ends else exchange.write(passed))
        return ends

    while True:
        try:
            await _tell_events(source, events, tell)
            break
        except UpstreamError as error:
            try:
                source, events = await answering.go_on(error)
            except (UpstreamError, ApiError):
                if progress.first_byte_s is None:
                    raise
                progress.failed = True
                copy.discard()
                await exchange.finish(error_event(EngineError("The engine failed in the middle of its answer.")))
                return
    if progress.first_byte_s is None:
        await exchange.start(200, headers)
    if events.failed:
        progress.failed = True
        copy.discard()
    progress.usage = events.usage
    if not exchange.finished:
        await exchange.finish()


async def _tell_events(
    source: UpstreamResponse | None, events: Events, tell: Callable[[bytes], Awaitable[bool]]
) -> None:
    """Tells the client's events as they come. Raises UpstreamError where they break off."""
    while source is not None and not events.over and (chunk := await source.next_chunk()):
        if (passed := events.feed(chunk)) and await tell(passed):
            if not events.over:
                source.let_end()
            return
        if events.broken:
            raise StreamBroken
    if last := events.finish():
        await tell(last)


async def _pass_on_whole(
    exchange: Exchange, progress: Progress, response: UpstreamResponse, copy: AnswerCopy, content_type: bytes
) -> None:
    headers: HeaderList = [(b"content-type", content_type)]
    tail = UsageTail()
    held = bytearray()
    while chunk := await response.next_chunk():
        tail.feed(chunk)
        copy.feed(chunk)
        if exchange.status is not None:
            await exchange.write(chunk)
            continue
        held += chunk
        if len(held) > MAX_HELD_BYTES:
            await exchange.start(200, headers)
            await exchange.write(bytes(held))
    progress.usage = tail.usage() or Usage()
    if exchange.status is not None:
        await exchange.finish()
    else:
        await exchange.send_whole(200, headers, bytes(held))


async def _pass_on_guarded(
    exchange: Exchange,
    progress: Progress,
    response: UpstreamResponse,
    copy: AnswerCopy,
    content_type: bytes,
    guard: AnswerGuard,
) -> None:
    """Nothing is sent before all of the answer was looked at."""
    held = bytearray()
    while chunk := await response.next_chunk():
        held += chunk
        if len(held) > MOST_WHOLE_BYTES:
            raise EngineError("The answer is too long for the guardrails of this API key. Ask for a stream.")
    tail = UsageTail()
    tail.feed(bytes(held))
    progress.usage = tail.usage() or Usage()
    body = guard.whole(bytes(held))
    copy.feed(body)
    await exchange.send_whole(200, [(b"content-type", content_type)], body)
