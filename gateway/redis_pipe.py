"""The Redis client of the data path: every command of one turn of the event loop leaves in one write.

A general client costs more than the rest of a request together. This one sends commands, hands their replies back in
order, and knows nothing else; redis-py serves everything but the hot path (docs/decisions/007-below-asgi.md).

Errors are redis-py's: ConnectionError while Redis cannot be reached, TimeoutError when it stays silent, and
ResponseError for what it refuses. While Redis is known to be away a call fails at once.
"""

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import hiredis
import structlog
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
Argument = bytes | str | int | float
Failed = Callable[["asyncio.Future[Any]", RedisError], None]


class Pipe(ABC):
    """Redis, one server or a cluster, as the data path asks it."""

    @abstractmethod
    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        """The reply, or RedisError. A caller that does not care may let the future go."""

    @property
    @abstractmethod
    def tags(self) -> Sequence[str]:
        """A hash tag for each server: of names with these tags, each server has one."""

    @abstractmethod
    async def close(self) -> None: ...

    def script(self, text: str) -> "Script":
        return Script(self, text)


class Script:
    """A Lua script, sent by its SHA-1 and in full only where Redis does not know it yet."""

    def __init__(self, pipe: Pipe, text: str) -> None:
        self._pipe = pipe
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Raises RedisError."""
        try:
            return await self._pipe.call("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._pipe.call("EVAL", self._text, len(keys), *keys, *arguments)

    def send(self, keys: Sequence[str], arguments: Sequence[Argument], failed: Callable[[BaseException], None]) -> None:
        """Runs the script without waiting for it; `failed` hears of a RedisError."""

        def check(reply: "asyncio.Future[Any]") -> None:
            error = None if reply.cancelled() else reply.exception()
            if isinstance(error, NoScriptError):
                self._pipe.call("EVAL", self._text, len(keys), *keys, *arguments).add_done_callback(check)
            elif error is not None:
                failed(error)

        self._pipe.call("EVALSHA", self._sha, len(keys), *keys, *arguments).add_done_callback(check)


class RedisPipe(Pipe):
    """One connection to one server, shared by all requests of the process.

    `url` as redis-py understands it. `failed` is told of every error, and sets it as the future's exception or does
    better.
    """

    tags = ("",)

    def __init__(self, url: str, *, timeout_s: float, failed: Failed | None = None) -> None:
        options = parse_url(url)  # type: ignore[no-untyped-call]
        self._address = {name: options.get(name) for name in ("host", "port", "path")}
        self._greeting = _greeting(options)
        self._encrypted = url.startswith("rediss://")
        self._timeout_s = timeout_s
        self._failed = failed or fail
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._waiting: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._log = structlog.get_logger(__name__)

    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(pack(command), future)
        return future

    def send(self, packed: bytes, future: "asyncio.Future[Any]") -> None:
        """The reply to a command as `pack` makes it becomes the future's."""
        connection = self._connection
        if connection is not None and not connection.closed:
            connection.send(packed, future)
        elif time.monotonic() < self._away_until:
            self._failed(future, RedisConnectionError("Redis is away."))
        else:
            self._waiting.append((packed, future))
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.close(RedisConnectionError("The connection was closed."))

    async def _connect(self) -> None:
        """Opens the connection and sends what waits for it, or fails it and stays away for a moment."""
        error: RedisError | None = RedisConnectionError("The connection was closed.")
        try:
            async with asyncio.timeout(self._timeout_s):
                self._connection = await self._open()
            error = None
        except (OSError, TimeoutError, RedisError) as reason:
            self._log.warning("redis is away", reason=type(reason).__name__)
            error = RedisConnectionError("Redis cannot be reached.")
            self._away_until = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        finally:
            self._connecting = None
            waiting, self._waiting = self._waiting, []
            for packed, future in waiting:
                if error is not None or self._connection is None:
                    self._failed(future, error or RedisConnectionError("Redis cannot be reached."))
                else:
                    self._pause_s = FIRST_PAUSE_S
                    self._connection.send(packed, future)

    async def _open(self) -> "_Connection":
        loop = asyncio.get_running_loop()

        def protocol() -> _Connection:
            return _Connection(loop, self._timeout_s, self._failed)

        if self._address["path"]:
            _, connection = await loop.create_unix_connection(protocol, self._address["path"])
        else:
            host, port = self._address["host"] or "localhost", self._address["port"] or 6379
            _, connection = await loop.create_connection(protocol, host, port, ssl=self._encrypted or None)
        for command in self._greeting:
            greeted: asyncio.Future[Any] = loop.create_future()
            connection.send(pack(command), greeted)
            await greeted
        return connection


class _Connection(asyncio.Protocol):
    """Replies come in the order of the commands. One that stays out too long ends the connection for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, failed: Failed) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._failed = failed
        self._reader = hiredis.Reader(protocolError=ResponseError, replyError=_response_error)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._expected: deque[asyncio.Future[Any]] = deque()
        self._heard_at = loop.time()
        self._timer = loop.call_later(timeout_s, self._check_silence)
        self.closed = False

    def send(self, packed: bytes, future: "asyncio.Future[Any]") -> None:
        if not self._expected:
            self._heard_at = self._loop.time()
            if self._transport is not None:
                self._expected.append(future)
                self._transport.write(packed)
                return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._expected.append(future)

    def close(self, error: RedisError) -> None:
        if self.closed:
            return
        self.closed = True
        self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        expected, self._expected = self._expected, deque()
        for future in expected:
            self._failed(future, error)

    def _flush(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _check_silence(self) -> None:
        silent_s = self._loop.time() - self._heard_at if self._expected else 0.0
        if silent_s >= self._timeout_s:
            self.close(RedisTimeoutError("Redis did not answer in time."))
        else:
            self._timer = self._loop.call_later(self._timeout_s - silent_s, self._check_silence)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        expected = self._expected
        while expected:
            reply = self._reader.gets()
            if reply is False:
                return
            future = expected.popleft()
            if future.done():  # its caller has left
                continue
            if isinstance(reply, ResponseError):
                self._failed(future, reply)
            else:
                future.set_result(reply)

    def connection_lost(self, _error: Exception | None) -> None:
        self.close(RedisConnectionError("Redis closed the connection."))


def pack(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # the stub says a tuple of one
    return packed


def _greeting(options: dict[str, Any]) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    if password := options.get("password"):
        username = options.get("username")
        commands.append(("AUTH", username, password) if username else ("AUTH", password))
    if database := options.get("db"):
        commands.append(("SELECT", str(database)))
    return commands


def _response_error(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


def fail(future: "asyncio.Future[Any]", error: RedisError) -> None:
    if not future.done():
        future.set_exception(error)
        with suppress(Exception):
            future.exception()  # who has let the future go wants no warning
