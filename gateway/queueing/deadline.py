"""How long the client waits: `x-request-timeout`, in seconds from the arrival of its request."""

import asyncio
import math
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType

from contracts.errors import DeadlineExceeded, InvalidValue

TIMEOUT_HEADER = b"x-request-timeout"
_UNBOUNDED = nullcontext()


class Deadline:
    """The end of a client's patience, in the running loop's time; infinite where it named none.

    async with deadline.enforced():
        ...  # DeadlineExceeded from here once it has passed
    """

    __slots__ = ("at",)

    def __init__(self, at: float = math.inf) -> None:
        self.at = at

    @classmethod
    def of(cls, headers: dict[bytes, bytes]) -> "Deadline":
        """By a request that has just arrived. Costs a look-up where there is none. Raises InvalidValue."""
        given = headers.get(TIMEOUT_HEADER)
        return NO_DEADLINE if given is None else cls(asyncio.get_running_loop().time() + _seconds(given))

    def enforced(self) -> AbstractAsyncContextManager[None]:
        """Cancels what it encloses at the deadline, and raises DeadlineExceeded in its place."""
        return _UNBOUNDED if self.at == math.inf else _Enforced(self.at)


NO_DEADLINE = Deadline()


class _Enforced:
    def __init__(self, at: float) -> None:
        self._timeout = asyncio.timeout_at(at)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise exceeded() from None


def exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("The answer was not complete within the request's own timeout.")


def _seconds(given: bytes) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidValue(
            "Invalid value for the header `x-request-timeout`: expected a number of seconds above 0.",
            param="x-request-timeout",
        )
    return seconds
