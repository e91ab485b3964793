"""The name of a question: two requests with the same one ask for the same answer."""

import hashlib
from typing import Any

import msgspec

from gateway.cache.bounded import BoundedMap

NOT_PART_OF_THE_QUESTION = frozenset({"user", "metadata", "store", "service_tier", "priority"})
FORM = b"2"
"""Of the digest and of what is kept under it. A new one makes all that was kept before unreachable."""
MOST_BODIES = 16_384


class QuestionDigests:
    """Digests of requests in canonical form: without the order of fields, white space, nulls, and who asks.

    A body seen lately, byte by byte, costs one SHA-256 (a microsecond for a kilobyte); another one is decoded and
    encoded again besides (some 10 microseconds for a kilobyte).
    """

    def __init__(self) -> None:
        self._known: BoundedMap[bytes, str] = BoundedMap(MOST_BODIES)

    def digest(self, path: str, weights: str, body: bytes) -> str:
        """`weights` is the digest of the model's weights. `body` is JSON and an object."""
        asked_where = b"\0".join((FORM, path.encode(), weights.encode(), b""))
        seen = hashlib.sha256(asked_where)
        seen.update(body)
        raw = seen.digest()
        known = self._known.get(raw)
        if known is None:
            known = hashlib.sha256(asked_where + canonical(msgspec.json.decode(body))).hexdigest()
            self._known[raw] = known
        return known


def canonical(document: dict[str, Any]) -> bytes:
    """A request without the order of its fields, white space, nulls, and who asks."""
    question = {
        name: value for name, value in document.items() if value is not None and name not in NOT_PART_OF_THE_QUESTION
    }
    return msgspec.json.encode(question, order="deterministic")
