"""API keys on the request path."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import InvalidApiKey, MissingApiKey, PermissionDenied, ServiceUnavailable
from contracts.keys import ApiKey, Scope
from gateway.auth.address import AddressGuard
from store.keys import SECRET_PREFIX, KeyRepository

MAX_CACHED_KEYS = 10_000
UNKNOWN_KEY_CACHE_S = 5.0
SQL_AWAY_S = 1.0
"""How long a known key is not looked up again after SQL was found away."""
MAX_SECRET_LETTERS = 256


@dataclass(frozen=True, slots=True)
class _CachedKey:
    key: ApiKey | None
    stale_at: float


class Authenticator:
    """Turns an `Authorization` header into the key it belongs to.

    A known key costs one SHA-256 (about a microsecond); an unknown one costs a query in a thread.
    `forget()` is called at news of a change, so that a revocation counts at once; without news
    (Redis away) it counts after `key_cache_s`. While SQL is away, and nobody can revoke anything,
    keys that are known stay so.
    """

    def __init__(self, keys: KeyRepository, guard: AddressGuard, *, key_cache_s: float) -> None:
        self._keys = keys
        self._guard = guard
        self._key_cache_s = key_cache_s
        self._cache: dict[bytes, _CachedKey] = {}
        self._generation = 0

    async def authenticate(
        self, authorization: str | None, *, address: Callable[[], str], scopes: Collection[Scope]
    ) -> ApiKey:
        """The key, if it has one of the scopes. `address` is asked only for callers that are not known.

        Raises MissingApiKey, InvalidApiKey, PermissionDenied, RateLimitExceeded for an address that guesses, and
        ServiceUnavailable for a key that is not known while SQL is away.
        """
        try:
            key = await self._find(_secret_of(authorization), address)
            self._check_alive(key)
        except (MissingApiKey, InvalidApiKey):
            self._guard.record_failure(address())
            raise
        if key.scopes.isdisjoint(scopes):
            needed = " or ".join(f"`{scope}`" for scope in scopes)
            raise PermissionDenied(f"This API key does not have the scope {needed}.")
        return key

    def forget(self) -> None:
        self._generation += 1
        self._cache.clear()

    async def _find(self, secret: str, address: Callable[[], str]) -> ApiKey:
        digest = hashlib.sha256(secret.encode()).digest()
        cached = self._cache.get(digest)
        if cached is None or cached.stale_at < time.monotonic():
            if cached is None or cached.key is None:  # who is known is not slowed by others behind the same proxy
                self._guard.check(address())
            try:
                cached = await self._load(secret, digest)
            except SQLAlchemyError:
                if cached is None or cached.key is None:
                    raise ServiceUnavailable("API keys cannot be looked up at the moment.", retry_after_s=1) from None
                cached = self._cache[digest] = _CachedKey(cached.key, time.monotonic() + SQL_AWAY_S)
        if cached.key is None:
            raise InvalidApiKey("The API key is not valid.")
        return cached.key

    async def _load(self, secret: str, digest: bytes) -> _CachedKey:
        generation = self._generation
        key = await asyncio.to_thread(self._keys.find_by_secret, secret)
        trusted_s = UNKNOWN_KEY_CACHE_S if key is None else self._key_cache_s
        cached = _CachedKey(key, time.monotonic() + trusted_s)
        if generation == self._generation:  # news that came meanwhile may be about this key
            if len(self._cache) >= MAX_CACHED_KEYS:
                self._cache.clear()
            self._cache[digest] = cached
        return cached

    @staticmethod
    def _check_alive(key: ApiKey) -> None:
        if key.revoked_at is not None:
            raise InvalidApiKey("The API key was revoked.")
        if key.expires_at is not None and key.expires_at <= time.time():
            raise InvalidApiKey("The API key has expired.")


def _secret_of(authorization: str | None) -> str:
    if not authorization:
        raise MissingApiKey("No API key was given. Send it in the header `Authorization: Bearer sk-fw-…`.")
    kind, _, secret = authorization.partition(" ")
    secret = secret.strip()
    if kind.lower() != "bearer" or not secret.startswith(SECRET_PREFIX) or len(secret) > MAX_SECRET_LETTERS:
        raise InvalidApiKey("The API key is not valid. Keys look like `sk-fw-…` and follow the word `Bearer`.")
    return secret
