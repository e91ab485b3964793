"""One HTTP exchange of the data path: what came in, and the one answer that goes out."""

import asyncio
import itertools
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from contracts.errors import ApiError, BodyTooLarge
from contracts.identifiers import new_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

REQUEST_ID_HEADER = b"x-request-id"
MODEL_HEADER = b"x-flywheel-model"
"""The model that answered, where it is not the one that was asked for."""
_SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_process = new_id("req")
_numbers = itertools.count()


class ClientDisconnected(Exception):
    """The client has left; nobody reads the answer."""


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """The client's own request id where it is harmless; otherwise one of this process's, with a number."""
    given = headers.get(REQUEST_ID_HEADER)
    if given is not None and _SAFE_REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"{_process}{next(_numbers):x}"


class Exchange(ABC):
    """Reads the request's body and sends the answer, once. Later headers are added to `headers` until it starts."""

    def __init__(self, request_headers: dict[bytes, bytes]) -> None:
        self.request_headers = request_headers
        self.request_id = request_id_of(request_headers)
        self.headers: HeaderList = [(REQUEST_ID_HEADER, self.request_id.encode())]
        self.started_at = time.perf_counter()
        self.status: int | None = None
        self.finished = False

    @abstractmethod
    def client_address(self) -> str:
        """The client's address, as far as trusted proxies tell it."""

    @abstractmethod
    async def read_body(self, limit_bytes: int) -> bytes:
        """Raises BodyTooLarge before more than the limit is held, and ClientDisconnected."""

    @abstractmethod
    def watch(self, left: Callable[[], None] | None) -> None:
        """Calls `left` once the client has gone; None ends the watch. To be called after the body was read."""

    @abstractmethod
    async def start(self, status: int, headers: HeaderList) -> None: ...

    @abstractmethod
    async def write(self, chunk: bytes) -> None:
        """Waits while the client is slow to read."""

    @abstractmethod
    async def finish(self, chunk: bytes = b"") -> None: ...

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_at

    def header(self, name: bytes) -> str | None:
        value = self.request_headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def send_whole(self, status: int, headers: HeaderList, body: bytes) -> None:
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.finish(body)

    async def send_error(self, error: ApiError) -> None:
        headers = [(name.encode(), value.encode()) for name, value in error.headers().items()]
        own = {name for name, _ in headers}
        self.headers = [header for header in self.headers if header[0] not in own]
        body = error.envelope().model_dump_json().encode()
        await self.send_whole(error.status, [(b"content-type", b"application/json"), *headers], body)

    def _check_declared_length(self, limit_bytes: int) -> None:
        declared = self.request_headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit_bytes} bytes.")


class AsgiExchange(Exchange):
    """An exchange that came through an ASGI server and its application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(dict(scope["headers"]))
        self._receive = receive
        self._send = send
        self._client = scope.get("client")
        self._watcher: asyncio.Task[None] | None = None

    def client_address(self) -> str:
        return (self._client or ("unknown", 0))[0]

    async def read_body(self, limit_bytes: int) -> bytes:
        self._check_declared_length(limit_bytes)
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            body += message.get("body", b"")
            if len(body) > limit_bytes:
                raise too_large(limit_bytes)
            if not message.get("more_body", False):
                return bytes(body)

    def watch(self, left: Callable[[], None] | None) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        if left is not None:
            self._watcher = asyncio.get_running_loop().create_task(self._wait_for_disconnect(left))

    async def start(self, status: int, headers: HeaderList) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.headers]})

    async def write(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes = b"") -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _wait_for_disconnect(self, left: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        left()
