"""Writes to many connections that leave together."""

import asyncio

FEW = 4
MOST_HELD_BYTES = 256 * 1024


class WriteTurn:
    """Holds what one turn of the event loop writes and lets it go at the turn's end, write after write.

    A write wakes the process at the other end, and where that has gone to sleep since the last write, waking it costs
    more than all the rest. Writes that follow each other closely find it awake. Costs an append; a connection's bytes
    keep their order, and wait for the tasks that run in this turn.
    """

    def __init__(self) -> None:
        self._held: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._held_bytes = 0

    def write(self, transport: asyncio.WriteTransport, data: bytes, *, in_progress: int) -> None:
        """With fewer than `FEW` exchanges in progress nothing is held: there is nobody to wait for."""
        if not self._held:
            if in_progress < FEW:
                transport.write(data)
                return
            asyncio.get_running_loop().call_soon(self.flush)
        self._held.append((transport, data))
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD_BYTES:
            self.flush()  # so that a transport can say that its reader is slow

    def flush(self) -> None:
        """To be called before a transport is closed or given away, too."""
        held, self._held, self._held_bytes = self._held, [], 0
        for transport, data in held:
            transport.write(data)
