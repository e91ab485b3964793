"""Holds many streams open at once, in one process, and notes when each event came."""

import asyncio
import gc
import json
import re
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools
import uvloop

from loadtests.peers.servers import CHAT, Server

SENT_AT = re.compile(rb'"content": ?"(\d+)"')
END_OF_EVENT = b"\n\n"
DONE = b"data: [DONE]"
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """`streams` at once, opened evenly over `ramp_s`; each begins anew until `repeat_s` have passed."""

    streams: int
    chunks: int
    gap_ms: int
    ramp_s: float = 0.0
    repeat_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """What came of a load. Times in seconds."""

    first_token_s: "array[float]" = field(default_factory=lambda: array("d"))
    gaps_s: "array[float]" = field(default_factory=lambda: array("d"))
    delays_s: "array[float]" = field(default_factory=lambda: array("d"))
    """From the engine's write to our read."""
    events: int = 0
    completed: int = 0
    open: int = 0
    most_open: int = 0
    took_s: float = 0.0


class StreamFailed(Exception):
    """An answer other than 200, a connection lost in the middle, or an event that is missing."""


def run_load(server: Server, load: Load, *, when_all_open: Callable[[], None] | None = None) -> Seen:
    """Runs every stream to its end. Raises StreamFailed."""
    seen = Seen()
    gc.collect()
    gc.disable()  # a pause of ours would look like one of the server
    try:
        uvloop.run(_run(server, load, seen, when_all_open))
    finally:
        gc.enable()
    return seen


async def _run(server: Server, load: Load, seen: Seen, when_all_open: Callable[[], None] | None) -> None:
    loop = asyncio.get_running_loop()
    address = urlsplit(server.url)
    request = _request(server, load)
    started_at = time.monotonic()
    until = started_at + load.ramp_s + load.repeat_s
    streams: list[_Stream] = []
    try:
        for number in range(load.streams):
            stream = _Stream(request, load, seen, until)
            await loop.create_connection(lambda made=stream: made, address.hostname, address.port)
            streams.append(stream)
            await asyncio.sleep(started_at + load.ramp_s * number / load.streams - time.monotonic())
        if when_all_open is not None:
            await asyncio.sleep(load.gap_ms / 1000 * 2)
            when_all_open()
        ends_s = load.repeat_s + 3 * load.chunks * load.gap_ms / 1000 + STALLED_S
        async with asyncio.timeout(ends_s):
            await asyncio.gather(*(stream.ended for stream in streams))
        seen.took_s = time.monotonic() - started_at
    except TimeoutError:
        raise StreamFailed(f"{server.name}: {seen.open} of {load.streams} streams never ended") from None
    finally:
        for stream in streams:
            stream.close()


def _request(server: Server, load: Load) -> bytes:
    prompt = f"{load.chunks} chunks, {load.gap_ms} ms apart"
    question = {"model": server.model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    body = json.dumps(question | {"max_tokens": load.chunks}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {server.key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class _Stream(asyncio.Protocol):
    """One stream after the other on one connection."""

    def __init__(self, request: bytes, load: Load, seen: Seen, until: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._request, self._load, self._seen, self._until = request, load, seen, until
        self._parser = httptools.HttpResponseParser(self)
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self.ended.done() and not self.ended.cancelled():
            self.ended.exception()  # was told already, or one before it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._begin()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(StreamFailed(f"connection lost after {self._events} events: {error}"))

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        self._parser.feed_data(data)

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._events = 0
        self._tokens = 0
        self._done = False
        self._began_at = self._last_at = time.monotonic()  # the loop's own time is in milliseconds
        self._seen.open += 1
        self._seen.most_open = max(self._seen.open, self._seen.most_open)
        self._transport.write(self._request)

    # -- httptools callbacks

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._fail(f"{self._parser.get_status_code()}: {body[:200]!r}")
            return
        *events, self._buffer = (self._buffer + body).split(END_OF_EVENT)
        for event in events:
            if (sent_at := SENT_AT.search(event)) is not None:
                self._token(int(sent_at[1]) / 1e9)
            elif event.startswith(DONE):
                self._done = True

    def on_message_complete(self) -> None:
        if self.ended.done():
            return
        if not self._done or self._tokens != self._load.chunks:
            self._fail(f"{self._tokens} of {self._load.chunks} events, {'' if self._done else 'not '}ended")
            return
        self._seen.completed += 1
        self._seen.open -= 1
        if self._now < self._until:
            self._loop.call_soon(self._begin)
        else:
            self.ended.set_result(None)

    def _token(self, sent_at: float) -> None:
        seen, now = self._seen, self._now
        if self._tokens == 0:
            seen.first_token_s.append(now - self._began_at)
        else:
            seen.gaps_s.append(now - self._last_at)
        seen.delays_s.append(now - sent_at)
        self._last_at = now
        self._tokens += 1
        seen.events += 1

    def _fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(StreamFailed(reason))
