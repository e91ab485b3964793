"""The data path below ASGI: an HTTP/1.1 server protocol that answers its own routes itself.

uvicorn makes one of these for each connection. A request whose first line is that of a data-path route, and whose head
is of the plain kind that clients send, is answered here; with anything else the connection is handed over to uvicorn's
own protocol, unread, and stays there: the same routes are served by the ASGI application too, only slower
(docs/decisions/007-below-asgi.md).
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, cast

import httptools
from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from contracts.errors import ApiError, HeadTooLarge
from gateway.drain import Drain
from gateway.relay.exchange import ClientDisconnected, Exchange, HeaderList
from gateway.relay.writes import WriteTurn

MAX_HEAD_BYTES = 32 * 1024
MAX_PIPELINED_BYTES = 64 * 1024
MAX_SKIPPED_BYTES = 64 << 20
"""Unread rest of a refused body that is read and dropped, so that the client gets to see the refusal."""
LINGER_S = 1.0
"""Closed at once on a client that still sends, a connection would be reset and the refusal lost (RFC 9112, 9.6)."""

Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_HANDED_OVER = frozenset({b"transfer-encoding", b"upgrade", b"expect"})


def direct_protocol(handlers: Mapping[str, Handler], drain: Drain) -> type["DirectProtocol"]:
    """The protocol class for `uvicorn.Config(http=…)`. `handlers` are by the path of their POST route."""

    class Protocol(DirectProtocol):
        _writes = WriteTurn()
        _handlers = MappingProxyType({_first_line(path): handler for path, handler in handlers.items()})
        _first_lines = tuple(_handlers)
        _drain = drain

    return Protocol


class _Head:
    """What httptools finds in the head of a request."""

    __slots__ = ("headers", "plain")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.plain = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _HANDED_OVER:
            self.plain = False
        headers = self.headers
        headers[name] = value if name not in headers else headers[name] + b", " + value  # RFC 9110, 5.3


class DirectProtocol(asyncio.Protocol):
    """One connection. Its requests are answered one after the other; what is sent ahead waits."""

    _writes: WriteTurn
    _handlers: Mapping[bytes, Handler] = MappingProxyType({})
    _first_lines: tuple[bytes, ...] = ()
    _drain: Drain

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_event_loop()
        self._transport: asyncio.Transport
        self._buffer = b""
        self._skip_bytes = 0
        self._exchange: DirectExchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._keep_alive = True
        self._reading_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._idle_since = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self.closed = False

    # -- what an exchange calls

    def send(self, data: bytes) -> None:
        if not self.closed:
            self._writes.write(self._transport, data, in_progress=len(self._server_state.tasks))

    async def drain(self) -> None:
        if self._drained is not None:
            await self._drained

    @property
    def writing_paused(self) -> bool:
        return self._drained is not None

    def head(self, status: int, headers: HeaderList) -> bytes:
        if self._drain.began:
            self._keep_alive = False
        lines = [_STATUS_LINES[status]]
        lines += [b"%b: %b\r\n" % header for header in self._server_state.default_headers]
        lines += [b"%b: %b\r\n" % header for header in headers]
        lines.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)

    def client_address(self, headers: Mapping[bytes, bytes]) -> str:
        peer = self._transport.get_extra_info("peername")
        host = peer[0] if isinstance(peer, tuple) else "unknown"
        if self._config.proxy_headers and (forwarded := headers.get(b"x-forwarded-for")):
            proxies = ProxyHeadersMiddleware(_nowhere, self._config.forwarded_allow_ips or "127.0.0.1").trusted_hosts
            if host in proxies:
                return proxies.get_trusted_client_address(forwarded.decode("latin-1"))[0] or host
        return host

    def finished(self, missing_bytes: int) -> None:
        """The answer is out; on to the next request. `missing_bytes` of the old one have not come yet."""
        self._exchange = None
        self._server_state.total_requests += 1
        if self.closed:
            return
        if not self._keep_alive or missing_bytes > MAX_SKIPPED_BYTES:
            self._close()
            return
        self._skip_bytes = missing_bytes
        self._idle_since = self._loop.time()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        if self._buffer:
            self._next()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._server_state.connections.add(cast(Any, self))
        self._idle_timer = self._loop.call_later(self._config.timeout_keep_alive, self._close_when_idle)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
        if exchange is not None and exchange.missing_bytes:
            data = exchange.feed(data)
        if not data:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if exchange is None:
            self._next()
        elif len(self._buffer) > MAX_PIPELINED_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._let_go()
        self.resume_writing()
        if self._exchange is not None:
            self._exchange.lose()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # -- uvicorn's server calls this at its graceful stop

    def shutdown(self) -> None:
        if self._exchange is None:
            self._close()
        else:
            self._keep_alive = False

    # -- inside

    def _next(self) -> None:
        """Begins the next request if its head is there."""
        data = self._buffer
        if not data.startswith(self._first_lines):
            if not any(line.startswith(data) for line in self._first_lines):
                self._hand_over()
            return
        head_bytes = data.find(b"\r\n\r\n") + 4
        if head_bytes < 4:
            if len(data) > MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(f"The request's headers are larger than {MAX_HEAD_BYTES} bytes."))
            return
        headers = _parse(data[:head_bytes])
        if headers is None:
            self._hand_over()
            return
        self._keep_alive = self._keep_alive and headers.get(b"connection", b"").lower() != b"close"
        length = int(headers[b"content-length"])
        self._buffer = data[head_bytes + length :]
        self._exchange = DirectExchange(self, self._loop, headers, data[head_bytes : head_bytes + length], length)
        handler = self._handlers[data[: data.find(b"\n") + 1]]
        self._task = self._loop.create_task(handler(self._exchange))
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._server_state.tasks.discard(task)
        if task is self._task and self._exchange is not None and not self.closed:
            self._transport.abort()  # an answer that broke off must not look complete

    def _refuse(self, error: ApiError) -> None:
        self._keep_alive = False
        body = error.envelope().model_dump_json().encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        self.send(self.head(error.status, headers) + body)
        self._buffer, self._skip_bytes = b"", MAX_SKIPPED_BYTES
        self._loop.call_later(LINGER_S, self._transport.close)

    def _close(self) -> None:
        self._writes.flush()
        self._transport.close()

    def _hand_over(self) -> None:
        self._let_go()
        self._writes.flush()
        successor = HttpToolsProtocol(self._config, self._server_state, self._app_state, self._loop)
        successor.connection_made(self._transport)
        self._transport.set_protocol(successor)
        successor.data_received(self._buffer)
        self._buffer = b""

    def _let_go(self) -> None:
        self.closed = True
        self._server_state.connections.discard(cast(Any, self))
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _close_when_idle(self) -> None:
        """One timer a connection, looked at now and then, costs less than one a request."""
        idle_s = 0.0 if self._exchange is not None else self._loop.time() - self._idle_since
        if idle_s >= self._config.timeout_keep_alive:
            self._transport.close()
        else:
            rest_s = self._config.timeout_keep_alive - idle_s
            self._idle_timer = self._loop.call_later(rest_s, self._close_when_idle)


class DirectExchange(Exchange):
    """An exchange on a connection of our own."""

    def __init__(
        self,
        protocol: DirectProtocol,
        loop: asyncio.AbstractEventLoop,
        request_headers: dict[bytes, bytes],
        body: bytes,
        length: int,
    ) -> None:
        super().__init__(request_headers)
        self._protocol = protocol
        self._loop = loop
        self._body = [body]
        self.missing_bytes = length - len(body)
        self._body_waiter: asyncio.Future[None] | None = None
        self._left: Callable[[], None] | None = None
        self._head = b""
        self._chunked = False

    # -- what the protocol calls

    def feed(self, data: bytes) -> bytes:
        """Takes what belongs to the body and returns the rest."""
        part, rest = data[: self.missing_bytes], data[self.missing_bytes :]
        self.missing_bytes -= len(part)
        if not self.finished:
            self._body.append(part)
        if not self.missing_bytes and self._body_waiter is not None:
            self._body_waiter.set_result(None)
        return rest

    def lose(self) -> None:
        """The connection is gone."""
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_exception(ClientDisconnected())
        if self._left is not None:
            self._left()

    # -- Exchange

    def client_address(self) -> str:
        return self._protocol.client_address(self.request_headers)

    async def read_body(self, limit_bytes: int) -> bytes:
        self._check_declared_length(limit_bytes)
        if self.missing_bytes:
            if self._protocol.closed:
                raise ClientDisconnected
            self._body_waiter = self._loop.create_future()
            await self._body_waiter
            self._body_waiter = None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return body

    def watch(self, left: Callable[[], None] | None) -> None:
        self._left = left
        if left is not None and self._protocol.closed:
            left()

    async def start(self, status: int, headers: HeaderList) -> None:
        """The head leaves with the first bytes of the body."""
        self.status = status
        self._chunked = all(name != b"content-length" for name, _ in headers)
        coding = [(b"transfer-encoding", b"chunked")] if self._chunked else []
        self._head = self._protocol.head(status, [*headers, *self.headers, *coding])

    async def write(self, chunk: bytes) -> None:
        if chunk:
            self._send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)
            if self._protocol.writing_paused:
                await self._protocol.drain()

    async def finish(self, chunk: bytes = b"") -> None:
        if self._chunked:
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(chunk), chunk) if chunk else b"0\r\n\r\n"
        self.finished = True
        self._send(chunk)
        self._protocol.finished(self.missing_bytes)

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self._protocol.send(head + data if head else data)


def _first_line(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\n".encode()


def _parse(head_bytes: bytes) -> dict[bytes, bytes] | None:
    """The headers of a plain request, or None if it is of another kind or broken."""
    head = _Head()
    try:
        httptools.HttpRequestParser(head).feed_data(head_bytes)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return head.headers if head.plain and head.headers.get(b"content-length", b"").isdigit() else None


async def _nowhere(*_: Any) -> None:
    """The application behind a middleware that is only asked for what it trusts."""
