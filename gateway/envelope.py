"""What every route but the data path's shares: request ids, and a bound on bodies; and the end of connections."""

import re
from collections.abc import Mapping

import structlog

from contracts.errors import BodyTooLarge
from gateway.drain import Drain
from gateway.relay.exchange import (
    REQUEST_ID_HEADER,
    AsgiApp,
    AsgiExchange,
    Message,
    Receive,
    Scope,
    Send,
    request_id_of,
)
from gateway.relay.route import ROUTES

DATA_PATHS = frozenset(route.path for route in ROUTES)


class Envelope:
    """ASGI middleware. The data path's routes pass straight through: they see to both themselves."""

    def __init__(
        self, app: AsgiApp, *, max_body_bytes: int, uploads: Mapping[re.Pattern[str], int], drain: Drain
    ) -> None:
        """`uploads` are the paths whose bodies may be longer, and how long."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._uploads = uploads
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drain.began:
            send = _closing(send)
        if scope["type"] != "http" or (scope["path"] in DATA_PATHS and scope["method"] == "POST"):
            await self._app(scope, receive, send)
            return
        await _Guarded(self._app, scope, receive, send, self._limit_of(scope["path"])).run()

    def _limit_of(self, path: str) -> int:
        longer = (limit for uploads, limit in self._uploads.items() if uploads.fullmatch(path))
        return next(longer, self._max_body_bytes)


def _closing(send: Send) -> Send:
    """The connection ends with the answer."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return send_and_close


class _Guarded:
    """One exchange whose body is counted as it is read."""

    def __init__(self, app: AsgiApp, scope: Scope, receive: Receive, send: Send, limit_bytes: int) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit_bytes = limit_bytes
        self._read_bytes = 0
        self._too_large = False
        self._request_id = request_id_of(dict(scope["headers"]))

    async def run(self) -> None:
        declared = dict(self._scope["headers"]).get(b"content-length", b"0")
        self._too_large = declared.isdigit() and int(declared) > self._limit_bytes
        if not self._too_large:
            with structlog.contextvars.bound_contextvars(request_id=self._request_id):
                await self._app(self._scope, self._count, self._pass)
        if self._too_large:
            refusal = AsgiExchange(self._scope, self._receive, self._send)
            await refusal.send_error(BodyTooLarge(f"The body is larger than {self._limit_bytes} bytes."))

    async def _count(self) -> Message:
        if self._too_large:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._read_bytes += len(message.get("body", b""))
        if self._read_bytes > self._limit_bytes:
            self._too_large = True
            return {"type": "http.disconnect"}
        return message

    async def _pass(self, message: Message) -> None:
        if self._too_large:  # what the application says of the cut body is replaced by our refusal
            return
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, self._request_id.encode())]
        await self._send(message)
