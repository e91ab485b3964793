"""The concurrency leases of this gateway's requests in flight, which it renews as long as it lives."""

import asyncio
import itertools
import secrets
from collections.abc import Iterable

from gateway.redis_pipe import Pipe

IDS_PER_CALL = 1000


class HeldLeases:
    """A request holds one id, under a name each for its key and its tenant where these limit concurrency."""

    def __init__(self, pipe: Pipe, script: str, *, lease_s: float) -> None:
        self._pipe = pipe
        self._script = script
        self._lease_ms = round(lease_s * 1000)
        self._gateway = secrets.token_hex(6).encode()
        self._numbers = itertools.count()
        self._held: dict[str, set[bytes]] = {}

    def new_id(self) -> bytes:
        return b"%b:%d" % (self._gateway, next(self._numbers))

    def hold(self, names: Iterable[str], lease: bytes) -> None:
        """Once Redis has admitted it: a renewal writes it again until it is dropped."""
        for name in names:
            self._held.setdefault(name, set()).add(lease)

    def drop(self, names: Iterable[str], lease: bytes) -> None:
        for name in names:
            leases = self._held[name]
            leases.discard(lease)
            if not leases:
                del self._held[name]

    async def renew(self) -> None:
        """All commands leave in one write. Raises RedisError.

        They are sent in the moment in which the ids are listed, and in full, since a second try by its SHA-1 could
        write a lease again that was released meanwhile.
        """
        calls = []
        for name, leases in self._held.items():
            ids = list(leases)
            for start in range(0, len(ids), IDS_PER_CALL):
                some = ids[start : start + IDS_PER_CALL]
                calls.append(self._pipe.call("EVAL", self._script, 1, name, self._lease_ms, *some))
        await asyncio.gather(*calls)
