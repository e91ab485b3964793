"""Admission: a key's limits and the cache look-up, in one Redis round trip."""

from dataclasses import dataclass
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from contracts.errors import RateLimitExceeded
from contracts.keys import ApiKey
from contracts.settings import LimitSettings
from gateway.metrics import Metrics
from gateway.redis_pipe import Argument, RedisPipe
from store import redis_names

HeaderList = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on. `headers` are OpenAI's `x-ratelimit-*`; `cached` is the kept answer, if any."""

    headers: HeaderList
    reserved_tokens: int
    cached: bytes | None


class AdmissionControl:
    """Token buckets for requests and tokens per minute of each key, exact over any number of gateways.

    Tokens are reserved by estimate and settled by usage. When Redis is away, requests go through unlimited and
    uncached: serving counts more than counting.
    """

    def __init__(self, redis: RedisPipe, limits: LimitSettings, metrics: Metrics) -> None:
        folder = Path(__file__).parent
        self._admit = redis.script((folder / "admit.lua").read_text())
        self._settle = redis.script((folder / "settle.lua").read_text())
        self._limits = limits
        self._metrics = metrics
        self._log = structlog.get_logger(__name__)

    async def admit(self, key: ApiKey, *, estimated_tokens: int, cache_digest: str | None) -> Admission:
        """One round trip. Raises RateLimitExceeded."""
        requests_limit, tokens_limit = self._limits_of(key)
        names = [
            redis_names.request_bucket(key.tenant, key.id),
            redis_names.token_bucket(key.tenant, key.id),
            redis_names.cached_answer(key.tenant, cache_digest or ""),
        ]
        arguments: list[Argument] = [requests_limit, tokens_limit, estimated_tokens, "1" if cache_digest else "0"]
        try:
            reply = await self._admit(names, arguments)
        except RedisError as error:
            self._metrics.redis_errors.labels("admission").inc()
            self._log.warning("admitted without limits", reason=type(error).__name__)
            return Admission([], 0, None)
        admitted, requests_left, tokens_left, requests_reset_ms, tokens_reset_ms, wait_ms, refused_by, cached = reply
        headers = [
            (b"x-ratelimit-limit-requests", b"%d" % requests_limit),
            (b"x-ratelimit-limit-tokens", b"%d" % tokens_limit),
            (b"x-ratelimit-remaining-requests", b"%d" % requests_left),
            (b"x-ratelimit-remaining-tokens", b"%d" % tokens_left),
            (b"x-ratelimit-reset-requests", format_duration(requests_reset_ms)),
            (b"x-ratelimit-reset-tokens", format_duration(tokens_reset_ms)),
        ]
        if not admitted:
            budget = refused_by.decode()
            limit = requests_limit if budget == "requests" else tokens_limit
            raise LimitReached(
                f"Rate limit reached: {limit} {budget} per minute. Try again in {wait_ms / 1000:.1f} s.",
                headers=headers,
                retry_after_s=wait_ms / 1000,
            )
        return Admission(headers, 0 if cached else min(estimated_tokens, tokens_limit), cached)

    async def settle(self, key: ApiKey, *, reserved_tokens: int, used_tokens: int) -> None:
        """Gives back what was reserved and not used, or takes what was used beyond it. One round trip."""
        if reserved_tokens == used_tokens:
            return
        _, tokens_limit = self._limits_of(key)
        name = redis_names.token_bucket(key.tenant, key.id)
        try:
            await self._settle([name], [tokens_limit, reserved_tokens - used_tokens])
        except RedisError:
            self._metrics.redis_errors.labels("settlement").inc()

    def _limits_of(self, key: ApiKey) -> tuple[int, int]:
        return (
            key.requests_per_minute or self._limits.requests_per_minute,
            key.tokens_per_minute or self._limits.tokens_per_minute,
        )


class LimitReached(RateLimitExceeded):
    """A key's own limit; the answer tells how it stands in OpenAI's headers."""

    def __init__(self, message: str, *, headers: HeaderList, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self._headers = headers

    def headers(self) -> dict[str, str]:
        standing = {name.decode(): value.decode() for name, value in self._headers}
        return {**standing, **super().headers()}


def format_duration(milliseconds: int) -> bytes:
    """OpenAI's notation: `120ms`, `7.5s`, `1m12s`."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g}s".encode()
    return f"{int(seconds // 60)}m{int(seconds % 60)}s".encode()
