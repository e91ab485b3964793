"""Which requests repeat, and how they may use what is kept."""

from dataclasses import dataclass

from contracts.models import ModelCard
from contracts.openai import DataPathRequest, PoolingRequest
from gateway.cache.control import CacheControl
from gateway.cache.digest import QuestionDigests
from gateway.cache.questions import PlacedQuestion

OPT_IN_HEADER = b"x-flywheel-cache"
"""A request with `x-flywheel-cache: use` is kept although it samples at random."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How a request uses the cache. `digest` is empty where it does not; `max_age_s` is the oldest answer it takes."""

    digest: str
    model: str
    read: bool
    max_age_s: int | None = None
    question: PlacedQuestion | None = None
    """What is kept with the answer, so that it can be found by a similar question."""
    policy: str = ""
    """Digest of the guardrails that the answer goes over; empty without any."""

    @property
    def write(self) -> bool:
        return bool(self.digest)


BYPASS = CacheUse("", "", read=False)


def cache_use(
    request: DataPathRequest,
    body: bytes,
    card: ModelCard,
    path: str,
    headers: dict[bytes, bytes],
    digests: QuestionDigests,
    policy: str = "",
) -> CacheUse:
    """Decides by the request and its `Cache-Control`.

    The digest covers the route, the model's weights, the request and the guardrails' `policy`; the tenant is added by
    the Redis name.
    """
    if not _repeats(request, headers):
        return BYPASS
    control = CacheControl.parse(headers.get(b"cache-control"))
    if control.no_store:
        return BYPASS
    digest = digests.digest(path, f"{card.digest} {policy}" if policy else card.digest, body)
    return CacheUse(digest, card.name, read=not control.no_cache, max_age_s=control.max_age_s, policy=policy)


def _repeats(request: DataPathRequest, headers: dict[bytes, bytes]) -> bool:
    if isinstance(request, PoolingRequest):
        return True
    return request.temperature == 0 or request.seed is not None or headers.get(OPT_IN_HEADER) == b"use"
