"""Questions whose answers are kept, by their vectors: in Redis, and copies in this process to search in."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.cache.embedder import Vector
from gateway.redis_pipe import Pipe
from store import redis_names

MAX_LOCAL_BYTES = 64 << 20
OVERHEAD_BYTES = 512
"""Of a question, or of a context, beside its vectors: text, digest, objects."""


@dataclass(frozen=True, slots=True)
class PlacedQuestion:
    """A question as it is kept with its answer."""

    context: str
    text: str
    vector: Vector

    def packed(self) -> bytes:
        """Half precision moves a similarity by less than 0.001."""
        return self.vector.astype("<f2").tobytes()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question that was answered. `digest` is of its answer."""

    similarity: float
    text: str
    digest: str


class KnownQuestions:
    """Copies of one context's questions, the `most` newest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._matrix: Vector | None = None
        self._questions: list[tuple[str, str]] = []
        self._oldest = 0
        self._last = (0, 0)

    @property
    def held_bytes(self) -> int:
        return OVERHEAD_BYTES * (1 + len(self._questions)) + (0 if self._matrix is None else self._matrix.nbytes)

    @property
    def since(self) -> str:
        """Where a stream's news begins, for XRANGE."""
        return "-" if self._last == (0, 0) else f"({self._last[0]}-{self._last[1]}"

    def take(self, entries: list[tuple[bytes, list[bytes]]]) -> None:
        """Entries of the stream, in their order. Those that are known already are passed over."""
        for entry_id, fields in entries:
            milliseconds, _, number = entry_id.partition(b"-")
            place = (int(milliseconds), int(number))
            if place > self._last:
                self._last = place
                told = dict(zip(fields[::2], fields[1::2], strict=True))
                vector = np.frombuffer(told[b"vector"], dtype="<f2").astype(np.float32)
                self._add(told[b"text"].decode(), told[b"answer"].decode(), vector)

    def near(self, vector: Vector, *, at_least: float) -> Iterator[Neighbour]:
        """The nearest first. Searching a thousand questions takes 0.1 ms."""
        if self._matrix is None:
            return
        similarities = self._matrix[: len(self._questions)] @ vector
        candidates = np.flatnonzero(similarities >= at_least)
        for at in candidates[np.argsort(-similarities[candidates])]:
            text, digest = self._questions[at]
            yield Neighbour(float(similarities[at]), text, digest)

    def forget(self, digest: str) -> None:
        """Its answer is gone."""
        assert self._matrix is not None
        for at, (_, of) in enumerate(self._questions):
            if of == digest:
                self._questions[at] = ("", "")
                self._matrix[at] = 0

    def _add(self, text: str, digest: str, vector: Vector) -> None:
        count = len(self._questions)
        if self._matrix is None:
            self._matrix = np.zeros((1, len(vector)), dtype=np.float32)
        elif count == len(self._matrix) < self._most:
            grown = np.zeros((min(2 * count, self._most), len(vector)), dtype=np.float32)
            grown[:count] = self._matrix
            self._matrix = grown
        if count < self._most:
            self._questions.append((text, digest))
            self._matrix[count] = vector
        else:
            self._questions[self._oldest] = (text, digest)
            self._matrix[self._oldest] = vector
            self._oldest = (self._oldest + 1) % self._most


class QuestionIndex:
    """The answered questions of a tenant that differ from another one in nothing but their text.

    A look costs one round trip, which brings only what this process does not know yet, about 1 KB a question. The
    copies held here are bounded to `MAX_LOCAL_BYTES`, those of the contexts used last. Questions come into Redis and
    go from it together with their answers (scripts/keep.lua), beyond `most` of a context the oldest go; a copy may
    outlive its answer, and whoever finds that says so with `forget`.
    """

    def __init__(self, pipe: Pipe, *, most: int) -> None:
        self._pipe = pipe
        self._most = most
        self._contexts: OrderedDict[tuple[str, str], KnownQuestions] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    async def look(self, tenant: str, context: str) -> KnownQuestions:
        """Raises RedisError."""
        name = (tenant, context)
        known = self._contexts.get(name)
        if known is None:
            known = self._contexts[name] = KnownQuestions(self._most)
            self._held_bytes += known.held_bytes
        self._contexts.move_to_end(name)
        entries: Any = await self._pipe.call("XRANGE", redis_names.cache_questions(tenant, context), known.since, "+")
        before = known.held_bytes
        known.take(entries)
        if self._contexts.get(name) is known:
            self._held_bytes += known.held_bytes - before
            while self._held_bytes > MAX_LOCAL_BYTES:
                _, dropped = self._contexts.popitem(last=False)
                self._held_bytes -= dropped.held_bytes
        return known

    def forget(self, tenant: str) -> None:
        for name in [name for name in self._contexts if name[0] == tenant]:
            self._held_bytes -= self._contexts.pop(name).held_bytes

    def clear(self) -> None:
        self._contexts.clear()
        self._held_bytes = 0
