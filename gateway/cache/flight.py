"""An answer on its way, and those in this process who share in it."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from contracts.errors import EngineError
from gateway.relay.exchange import MODEL_HEADER, ClientDisconnected, Exchange, HeaderList
from gateway.relay.sse import error_event

RESULT_HEADER = b"x-flywheel-cache"


class Ending(Enum):
    ANSWERED = auto()
    UNSHARED = auto()
    """It failed, or cannot be shared. Who has seen nothing of it asks for itself."""
    VANISHED = auto()
    """Its leader has left. Who has seen nothing of it may lead in its place."""


class _Follower:
    __slots__ = ("delivered", "gone")

    def __init__(self) -> None:
        self.delivered = 0
        self.gone = False


class Flight:
    """The pieces of one answer. Its leader feeds it; each follower gets what there is and what comes, at its own pace.

    Up to `max_bytes` the whole answer is held, and whoever asks may still join. Beyond, nobody may, and the leader
    waits for the slowest follower at each piece, so that memory stays bounded.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._head: tuple[int, HeaderList] | None = None
        self._fallback: bytes | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._ending: Ending | None = None
        self._followers: set[_Follower] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self.abandoned: Callable[[], None] | None = None
        """Called when the last follower leaves, once the leader's own client has."""

    @property
    def joinable(self) -> bool:
        return self._bytes <= self._max_bytes

    @property
    def followed(self) -> bool:
        return bool(self._followers)

    # -- what the leader calls

    def begin(self, status: int, headers: HeaderList, *, fallback: bytes | None) -> None:
        """`fallback` is the model that answers in place of the one that all asked for."""
        self._head = (status, headers)
        self._fallback = fallback

    async def feed(self, piece: bytes) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._wake()
        while not self.joinable and any(follower.delivered < len(self._pieces) for follower in self._followers):
            await self._changed()
        if not self.joinable:
            self._pieces.clear()
            for follower in self._followers:
                follower.delivered = 0

    def end(self, ending: Ending) -> None:
        """The first ending counts."""
        if self._ending is None:
            self._ending = ending
            self._wake()

    # -- what a follower calls

    async def follow(self, exchange: Exchange, *, result: bytes | None = None) -> Ending:
        """Passes the answer on, and says how it ended: the client has seen all of it, or nothing.

        `result` is told in the head. Raises EngineError where the answer broke off, and ClientDisconnected.
        """
        follower = _Follower()
        self._followers.add(follower)

        def leave() -> None:
            follower.gone = True
            self._wake()

        exchange.watch(leave)
        try:
            return await self._deliver(exchange, follower, result)
        finally:
            exchange.watch(None)
            self._followers.discard(follower)
            self._wake()
            if not self._followers and self.abandoned is not None:
                self.abandoned()

    async def _deliver(self, exchange: Exchange, follower: _Follower, result: bytes | None) -> Ending:
        while not follower.gone:
            if follower.delivered < len(self._pieces):
                await self._start(exchange, result)
                piece = self._pieces[follower.delivered]
                follower.delivered += 1
                await exchange.write(piece)
                self._wake_leader()
            elif self._ending is None:
                await self._changed()
            elif self._ending is Ending.ANSWERED:
                await self._start(exchange, result)
                await exchange.finish()
                return self._ending
            elif exchange.status is None:
                return self._ending
            else:
                await self._break_off(exchange, result)
                return self._ending
        raise ClientDisconnected

    async def _break_off(self, exchange: Exchange, result: bytes | None) -> None:
        """A follower's stream ends with an error event. The leader's own request knows the reason, and ends itself."""
        assert self._head is not None
        error = EngineError("The engine failed in the middle of its answer.")
        if result is None or (b"content-length" in dict(self._head[1])):
            raise error
        await exchange.finish(error_event(error))

    async def _start(self, exchange: Exchange, result: bytes | None) -> None:
        if exchange.status is not None:
            return
        assert self._head is not None
        if result is not None:
            exchange.headers.append((RESULT_HEADER, result))
            if self._fallback is not None:
                exchange.headers = [header for header in exchange.headers if header[0] != MODEL_HEADER]
                exchange.headers.append((MODEL_HEADER, self._fallback))
        await exchange.start(*self._head)

    # -- inside

    def _wake_leader(self) -> None:
        if not self.joinable:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class LeadersExchange(Exchange):
    """The exchange of a request whose answer others may share in: what is written to it goes to the flight.

    Its own client is served from there, as the followers are and at its own pace, so that a slow one holds up nobody.
    When that client leaves, the answer goes on for those that stay.
    """

    def __init__(self, own: Exchange, flight: Flight) -> None:
        # Not Exchange.__init__: this is the same exchange, with the same id, headers and beginning.
        self.request_headers = own.request_headers
        self.request_id = own.request_id
        self.started_at = own.started_at
        self.status = own.status
        self.finished = own.finished
        self._own = own
        self._flight = flight
        self._head: HeaderList = []
        self._first_model = self._model()
        self._serving: asyncio.Task[None] | None = None
        self._left: Callable[[], None] | None = None
        self.wanted_elsewhere: Callable[[], bool] = lambda: False
        """Whether another gateway waits for the answer."""
        self.gone = False

    async def wait_for(self, future: "asyncio.Future[None]", *, timeout_s: float) -> None:
        """Waits for something else than an engine. Raises ClientDisconnected once nobody wants the answer any more."""

        def give_up() -> None:
            if not future.done():
                future.set_exception(ClientDisconnected())

        self.watch(give_up)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            pass
        finally:
            self.watch(None)

    async def end(self, ending: Ending) -> None:
        """To be called at the end, whatever it is. Returns once the client has all that there is for it."""
        self._flight.end(ending)
        if self._serving is not None:
            await asyncio.wait([self._serving])

    # -- Exchange

    @property
    def headers(self) -> HeaderList:
        return self._own.headers

    @headers.setter
    def headers(self, headers: HeaderList) -> None:
        self._own.headers = headers

    def client_address(self) -> str:
        return self._own.client_address()

    async def read_body(self, limit_bytes: int) -> bytes:
        return await self._own.read_body(limit_bytes)

    def watch(self, left: Callable[[], None] | None) -> None:
        self._left = left
        if self.gone:
            self._give_up()
        elif self._serving is None:
            self._own.watch(None if left is None else self._leave)

    async def start(self, status: int, headers: HeaderList) -> None:
        self.status, self._head = status, headers
        model = self._model()
        self._flight.begin(status, headers, fallback=None if model == self._first_model else model)

    async def write(self, chunk: bytes) -> None:
        if self._serving is None and not self.gone:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
            await asyncio.sleep(0)  # it follows before the first piece is fed
        await self._flight.feed(chunk)

    async def finish(self, chunk: bytes = b"") -> None:
        self.finished = True
        await self._flight.feed(chunk)
        self._flight.end(Ending.ANSWERED)
        if self._serving is None and not self.gone:
            assert self.status is not None
            await self._own.start(self.status, self._head)
            await self._own.finish(chunk)

    # -- inside

    def _model(self) -> bytes | None:
        return dict(self.headers).get(MODEL_HEADER)

    async def _serve(self) -> None:
        try:
            await self._flight.follow(self._own)
        except ClientDisconnected:
            self._leave()
        except EngineError:  # the leader's own request ends with the reason
            pass

    def _leave(self) -> None:
        self.gone = True
        self._flight.abandoned = self._give_up
        self._give_up()

    def _give_up(self) -> None:
        if self._left is not None and not self._flight.followed and not self.wanted_elsewhere():
            self._left()
