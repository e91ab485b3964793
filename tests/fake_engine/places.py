"""The places in the running batch of an engine of bounded capacity."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fake_engine.connection import ClientGone, Connection


class Places:
    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[asyncio.Event] = deque()

    @asynccontextmanager
    async def one_of(self, capacity: int | None, connection: Connection) -> AsyncIterator[None]:
        """Waits for one of `capacity` places, first come, first served. Raises ClientGone when the client leaves."""
        if capacity is not None and self._taken >= capacity:
            await self._turn(connection)
        else:
            self._taken += 1
        try:
            yield
        finally:
            if self._waiting:
                self._waiting.popleft().set()  # the place goes straight to the next
            else:
                self._taken -= 1

    async def _turn(self, connection: Connection) -> None:
        turn = asyncio.Event()
        self._waiting.append(turn)
        mine, gone = asyncio.ensure_future(turn.wait()), asyncio.ensure_future(connection.client_gone.wait())
        await asyncio.wait((mine, gone), return_when=asyncio.FIRST_COMPLETED)
        mine.cancel()
        gone.cancel()
        if turn.is_set():
            return
        self._waiting.remove(turn)
        raise ClientGone
