"""An exchange that keeps a copy of what its client gets."""

from collections.abc import Callable

from gateway.relay.exchange import Exchange, HeaderList


class CopyingExchange(Exchange):
    """The same exchange, with the same id, headers and beginning. The copy is given up past `max_bytes`."""

    def __init__(self, own: Exchange, max_bytes: int) -> None:
        # Not Exchange.__init__: see above.
        self.request_headers = own.request_headers
        self.request_id = own.request_id
        self.started_at = own.started_at
        self._own = own
        self._room_bytes = max_bytes
        self._copy: list[bytes] = []

    def copied(self) -> bytes | None:
        """The body that was sent; None where it is too long to be captured."""
        return b"".join(self._copy) if self._room_bytes >= 0 else None

    # -- Exchange

    @property
    def headers(self) -> HeaderList:
        return self._own.headers

    @headers.setter
    def headers(self, headers: HeaderList) -> None:
        self._own.headers = headers

    @property
    def status(self) -> int | None:
        return self._own.status

    @status.setter
    def status(self, status: int | None) -> None:
        self._own.status = status

    @property
    def finished(self) -> bool:
        return self._own.finished

    @finished.setter
    def finished(self, finished: bool) -> None:
        self._own.finished = finished

    def client_address(self) -> str:
        return self._own.client_address()

    async def read_body(self, limit_bytes: int) -> bytes:
        return await self._own.read_body(limit_bytes)

    def watch(self, left: Callable[[], None] | None) -> None:
        self._own.watch(left)

    async def start(self, status: int, headers: HeaderList) -> None:
        await self._own.start(status, headers)

    async def write(self, chunk: bytes) -> None:
        self._keep(chunk)
        await self._own.write(chunk)

    async def finish(self, chunk: bytes = b"") -> None:
        self._keep(chunk)
        await self._own.finish(chunk)

    # -- inside

    def _keep(self, chunk: bytes) -> None:
        self._room_bytes -= len(chunk)
        if self._room_bytes >= 0:
            self._copy.append(chunk)
        else:
            self._copy.clear()
