"""The HTTP/1.1 client of the data path: keep-alive connections to one engine, on httptools.

General clients cost more than the rest of the gateway together once many requests are in flight
(docs/decisions/001-own-upstream-client.md), so this one does just what relaying needs: send a request whole,
hand the answer on as it comes, stop reading when the reader is slow, and end the connection when the reader leaves.

UpstreamError
├── ConnectFailed      nothing was sent
├── ConnectionLost     the engine closed the connection before its answer was complete
├── GarbledAnswer      what came was not HTTP
├── StreamBroken       the engine itself says so in the middle of a stream, or ends it too early
├── UpstreamTimeout    silence for longer than `idle_timeout_s`
└── TooManyConnections `max_connections` are in use
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import httptools

from gateway.relay.writes import WriteTurn

HIGH_WATER_BYTES = 256 * 1024
"""The reader's backlog at which the connection stops reading, so that backpressure reaches the engine."""
MAX_HEADER_BYTES = 64 * 1024
SWEEPS_PER_TIMEOUT = 8
LONGEST_SWEEP_S = 1.0
LONGEST_END_S = 2.0
"""The wait for the end of a body whose last event has come, so that its connection may be kept."""

HeaderList = list[tuple[bytes, bytes]]


class UpstreamError(Exception):
    """The engine did not give a whole answer."""


class ConnectFailed(UpstreamError):
    pass


class ConnectionLost(UpstreamError):
    pass


class GarbledAnswer(UpstreamError):
    pass


class StreamBroken(UpstreamError):
    pass


class UpstreamTimeout(UpstreamError):
    pass


class TooManyConnections(UpstreamError):
    pass


class _Connection(asyncio.Protocol):
    """One connection, used by one exchange at a time. Parser callbacks fill it, one reader empties it."""

    def __init__(self, send: Callable[[asyncio.Transport, bytes], None]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waits_since: float | None = None
        self._ended: Callable[[], None] | None = None
        self._end_timer: asyncio.TimerHandle
        self._paused = False
        self.closed = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []  # seldom more than one; a deque takes 0.7 KB a stream
        self._buffered_bytes = 0
        self._header_bytes = 0
        self._error: UpstreamError | None = None
        self._until_close = True
        self._keep_alive = False
        self.status = 0
        self.headers: HeaderList = []
        self.head_complete = False
        self.complete = False
        self.expecting = False
        self.any_bytes_received = False

    # -- what the reader calls

    def send(self, request: bytes) -> None:
        self._reset()
        self.expecting = True
        assert self._transport is not None
        self._send(self._transport, request)

    async def wait_for_head(self) -> None:
        while not self.head_complete:
            await self._wait()

    async def wait_for_body(self) -> None:
        while not self._chunks and not self.complete:
            await self._wait()

    async def next_chunk(self) -> bytes:
        """The next bytes of the body as they came, b"" at its end."""
        while not self._chunks:
            if self.complete:
                return b""
            await self._wait()
        if len(self._chunks) == 1:
            chunk = self._chunks.pop()
        else:
            chunk = b"".join(self._chunks)
            self._chunks.clear()
        self._buffered_bytes = 0
        self._resume()
        return chunk

    def read_on(self, ended: Callable[[], None]) -> None:
        """Drops the rest of the body as it comes, and calls `ended` at its end, also where that does not come."""
        self._chunks.clear()
        self._buffered_bytes = 0
        if self.complete or self.closed:
            ended()
            return
        self._ended = ended
        self._end_timer = self._loop.call_later(LONGEST_END_S, self._fail, UpstreamTimeout())
        self._resume()

    @property
    def reusable(self) -> bool:
        return self.complete and self._keep_alive and not self.closed and not self._chunks

    def time_out(self, silent_since: float) -> None:
        """Gives up where nothing has come since then for a reader that waits."""
        if self._waits_since is not None and self._waits_since <= silent_since:
            self._fail(UpstreamTimeout())

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        self._waits_since = self._loop.time()
        try:
            await self._waiter
        finally:
            self._waits_since = self._waiter = None

    def _end(self) -> None:
        if self._ended is not None:
            self._end_timer.cancel()
            ended, self._ended = self._ended, None
            ended()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error)
        self.close()
        self._end()

    def _resume(self) -> None:
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if not self.expecting or self.complete:  # bytes that nobody asked for
            self.close()
            return
        self.any_bytes_received = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.complete:
                self._fail(GarbledAnswer())
            else:
                self.close()
            return
        if self._buffered_bytes > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        if self.head_complete and self._until_close and not self.complete:
            self.on_message_complete()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed = True
        if self.expecting and not self.complete:
            self._fail(ConnectionLost())

    # -- httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise GarbledAnswer
        lowered = name.lower()
        if lowered in (b"content-length", b"transfer-encoding"):
            self._until_close = False
        self.headers.append((lowered, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self.head_complete = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._ended is not None:
            return
        self._chunks.append(body)
        self._buffered_bytes += len(body)
        self._wake()

    def on_message_complete(self) -> None:
        if self.status < 200:  # an interim answer (RFC 9110, 15.2); the real one follows
            self.headers, self._until_close = [], True
            return
        self.complete = True
        self._keep_alive = bool(self._parser.should_keep_alive())  # the parser forgets it afterwards
        self._wake()
        self._end()


class UpstreamResponse:
    """An answer whose head has arrived. Read `next_chunk` to the end, or `let_end()`, or `abort()`."""

    def __init__(self, connection: _Connection, upstream: "Upstream") -> None:
        self._connection = connection
        self._upstream = upstream
        self._released = False
        self.status = connection.status
        self.headers = connection.headers

    async def next_chunk(self) -> bytes:
        """The next of the body, decoded from its transfer coding; b"" at its end.

        No iterator, since Python's asynchronous generators cost as much as the rest of the way. Raises UpstreamError
        where the body breaks off.
        """
        try:
            chunk = await self._connection.next_chunk()
        except BaseException:
            self._release()
            raise
        if not chunk:
            self._release()
        return chunk

    async def wait_for_body(self) -> None:
        """Returns when some of the body is there, or its end. Raises UpstreamError where it breaks off before."""
        await self._connection.wait_for_body()

    async def read(self, limit: int) -> bytes:
        """The first `limit` bytes of the body at most; a longer body ends the connection."""
        body = bytearray()
        while chunk := await self.next_chunk():
            body += chunk
            if len(body) > limit:
                self.abort()
                break
        return bytes(body[:limit])

    def let_end(self) -> None:
        """For a reader that needs no more of an answer that is about to end. Its connection is kept if it does."""
        if not self._released:
            self._released = True
            self._connection.read_on(partial(self._upstream.release, self._connection))

    def abort(self) -> None:
        """Ends an unfinished answer's connection at once, which tells the engine to stop generating."""
        if not self._released:
            self._connection.close()
            self._release()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._upstream.release(self._connection)


class Upstream:
    """The connections to one engine."""

    def __init__(self, url: str, *, connect_timeout_s: float, idle_timeout_s: float, max_connections: int) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError("An engine's URL has the form http://host:port.")
        self._host, self._port = parts.hostname, parts.port or 80
        self._host_header = parts.netloc.encode()
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_connections = max_connections
        self._idle: list[_Connection] = []
        self._in_use: set[_Connection] = set()
        self._writes = WriteTurn()
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def post(self, path: str, headers: HeaderList, body: bytes) -> UpstreamResponse:
        """Sends a request and waits for the head of its answer.

        A kept connection that the engine closed meanwhile is replaced once, unseen. Raises UpstreamError.
        """
        request = self._serialise(path, headers, body)
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._exchange(connection, request)
            except ConnectionLost:
                if connection.any_bytes_received:
                    raise
        return await self._exchange(await self._connect(), request)

    def release(self, connection: _Connection) -> None:
        """Takes a connection back: kept if its answer was read to the end, closed otherwise."""
        self._in_use.discard(connection)
        if connection.reusable:
            connection.expecting = False
            self._idle.append(connection)
        else:
            connection.close()

    def close_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def close(self) -> None:
        self.close_idle()
        for connection in self._in_use:
            connection.close()

    async def _exchange(self, connection: _Connection, request: bytes) -> UpstreamResponse:
        self._in_use.add(connection)
        if self._sweep_timer is None:
            self._sweep_later()
        try:
            connection.send(request)
            await connection.wait_for_head()
        except BaseException:
            connection.close()
            self.release(connection)
            raise
        return UpstreamResponse(connection, self)

    def _send(self, transport: asyncio.Transport, request: bytes) -> None:
        self._writes.write(transport, request, in_progress=len(self._in_use))

    def _sweep_later(self) -> None:
        pause_s = min(self._idle_timeout_s / SWEEPS_PER_TIMEOUT, LONGEST_SWEEP_S)
        self._sweep_timer = asyncio.get_running_loop().call_later(pause_s, self._sweep)

    def _sweep(self) -> None:
        """Looks for silence now and then, which costs less than a timer for each wait."""
        self._sweep_timer = None
        silent_since = asyncio.get_running_loop().time() - self._idle_timeout_s
        for connection in list(self._in_use):
            connection.time_out(silent_since)
        if self._in_use:
            self._sweep_later()

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        if len(self._in_use) >= self._max_connections:
            raise TooManyConnections
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(lambda: _Connection(self._send), self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise ConnectFailed from error
        return connection

    def _serialise(self, path: str, headers: HeaderList, body: bytes) -> bytes:
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n"
        return head % (path.encode(), self._host_header, lines, len(body)) + body
