"""Answers asked for lately, in this process: a hit here costs no look-up in Redis."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from gateway.cache.kept import KeptAnswer

OVERHEAD_BYTES = 512
"""Of an entry beside its body: names, objects, the mapping."""


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: KeptAnswer
    cost_bytes: int
    stale_at: float


class LocalAnswers:
    """Stands before Redis. Keeps at most `max_bytes`, each answer `ttl_s` long, those used last.

    `get` costs less than a microsecond, holds nothing up and charges no limit: whoever answers from here must still
    have the request admitted. News empties it; where news is lost, `ttl_s` bounds how long a forgotten answer lives.
    """

    def __init__(self, *, max_bytes: int, ttl_s: float) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def get(self, tenant: str, digest: str) -> KeptAnswer | None:
        name = (tenant, digest)
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.stale_at < time.monotonic():
            self._remove(name)
            return None
        self._entries.move_to_end(name)
        return entry.answer

    def put(self, tenant: str, digest: str, answer: KeptAnswer) -> None:
        name = (tenant, digest)
        cost_bytes = len(answer.body) + OVERHEAD_BYTES
        self._remove(name)
        if cost_bytes > self._max_bytes:
            return
        self._entries[name] = _Entry(answer, cost_bytes, time.monotonic() + self._ttl_s)
        self._held_bytes += cost_bytes
        while self._held_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def forget(self, tenant: str) -> None:
        for name in [name for name in self._entries if name[0] == tenant]:
            self._remove(name)

    def clear(self) -> None:
        self._entries.clear()
        self._held_bytes = 0

    def _remove(self, name: tuple[str, str]) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._held_bytes -= entry.cost_bytes
