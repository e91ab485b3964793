"""Limits by address, for those who have not shown a key: slowapi, counting in this process."""

from limits import RateLimitItemPerMinute
from slowapi import Limiter
from slowapi.util import get_remote_address

from contracts.errors import RateLimitExceeded


def create_edge_limiter() -> Limiter:
    """Counts by address, in this process's memory."""
    return Limiter(key_func=get_remote_address)


class AddressGuard:
    """Slows down an address that keeps failing to authenticate. A request costs one look-up in memory."""

    def __init__(self, limiter: Limiter, *, failures_per_minute: int) -> None:
        self._window = limiter.limiter
        self._limit = RateLimitItemPerMinute(failures_per_minute)

    def check(self, address: str) -> None:
        """Raises RateLimitExceeded while the address has failed too often."""
        if not self._window.test(self._limit, "authentication", address):
            raise RateLimitExceeded("Too many failed authentications from this address.", retry_after_s=60)

    def record_failure(self, address: str) -> None:
        self._window.hit(self._limit, "authentication", address)
