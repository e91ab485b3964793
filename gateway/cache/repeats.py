"""Which requests repeat, and the name under which their answer is kept."""

import hashlib
from dataclasses import dataclass

import msgspec

from contracts.models import ModelCard
from contracts.openai import DataPathRequest, EmbeddingRequest

NOT_PART_OF_THE_QUESTION = frozenset({"user", "metadata", "store", "service_tier", "priority"})
OPT_IN_HEADER = b"x-flywheel-cache"
"""A request with `x-flywheel-cache: use` is kept although it samples at random."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How a request uses the cache. `digest` is None where it does not."""

    digest: str | None
    read: bool
    write: bool


BYPASS = CacheUse(None, read=False, write=False)


def cache_use(
    request: DataPathRequest, body: bytes, card: ModelCard, path: str, headers: dict[bytes, bytes]
) -> CacheUse:
    """Decides by the request and its `Cache-Control` (RFC 9111, 5.2.1: `no-cache`, `no-store`).

    The digest covers the route, the model's weights and the request in canonical form; the tenant is added by the
    Redis name. Costs a second decode of the body, for requests that repeat only.
    """
    control = headers.get(b"cache-control", b"").lower()
    if b"no-store" in control or not _repeats(request, headers):
        return BYPASS
    digest = hashlib.sha256(b"\0".join((path.encode(), card.digest.encode(), _canonical(body)))).hexdigest()
    return CacheUse(digest, read=b"no-cache" not in control, write=True)


def _repeats(request: DataPathRequest, headers: dict[bytes, bytes]) -> bool:
    if isinstance(request, EmbeddingRequest):
        return True
    return request.temperature == 0 or request.seed is not None or headers.get(OPT_IN_HEADER) == b"use"


def _canonical(body: bytes) -> bytes:
    document = msgspec.json.decode(body)
    question = {
        name: value for name, value in document.items() if value is not None and name not in NOT_PART_OF_THE_QUESTION
    }
    return msgspec.json.encode(question, order="deterministic")
