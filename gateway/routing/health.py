"""Whether an engine is fit for requests, judged by what became of those sent to it.

Leases tell of engines that are gone; this is for those that are there and fail. After Envoy ("Outlier detection"):
an engine that fails is ejected for a time that doubles each time, then a single request tries it (half-open).
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

CONSECUTIVE_FAILURES = 3
FAILURE_SHARE = 0.5
FEWEST_REQUESTS = 10
"""Requests in a window below which the share of failures says nothing."""
WINDOW_S = 10.0
FIRST_EJECTION_S = 2.0
LONGEST_EJECTION_S = 60.0
PROBE_TIMEOUT_S = 10.0
"""A probe that tells nothing for so long is given up, and another request tries."""
FEWEST_FIT_SHARE = 0.5


class EngineHealth:
    """The outcomes of one engine's requests. Costs a comparison or two a request while all is well."""

    __slots__ = (
        "_clock",
        "_consecutive",
        "_ejected_until",
        "_ejections",
        "_failures",
        "_fit_since",
        "_probe_until",
        "_requests",
        "_window_ends",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ejected_until: float | None = None
        self._probe_until = 0.0
        self._ejections = 0
        self._fit_since = clock()
        self._consecutive = self._requests = self._failures = 0
        self._window_ends = 0.0

    @property
    def fit(self) -> bool:
        return self._ejected_until is None

    @property
    def wants_probe(self) -> bool:
        """Its ejection is over, and no request tries it yet."""
        return self._ejected_until is not None and self._clock() >= max(self._ejected_until, self._probe_until)

    def begin_probe(self) -> None:
        self._probe_until = self._clock() + PROBE_TIMEOUT_S

    def succeeded(self) -> None:
        """It began an answer."""
        self._consecutive = 0
        self._requests += 1
        if self._ejected_until is not None and self._clock() >= self._ejected_until:
            self._ejected_until = None
            self._fit_since = self._clock()
            self._requests = self._failures = 0

    def failed(self, *, unreachable: bool = False) -> None:
        """It gave no answer, or said that it cannot. One connection refused is enough: nobody listens there."""
        now = self._clock()
        if self._ejected_until is not None:
            if now >= self._ejected_until:
                self._eject(now)
            return
        if now >= self._window_ends:
            self._requests = self._failures = 0
            self._window_ends = now + WINDOW_S
        self._requests += 1
        self._failures += 1
        self._consecutive += 1
        often = self._requests >= FEWEST_REQUESTS and self._failures >= FAILURE_SHARE * self._requests
        if unreachable or often or self._consecutive >= CONSECUTIVE_FAILURES:
            if now - self._fit_since > LONGEST_EJECTION_S:
                self._ejections = 0
            self._eject(now)

    def _eject(self, now: float) -> None:
        self._ejected_until = now + min(FIRST_EJECTION_S * 2**self._ejections, LONGEST_EJECTION_S)
        self._ejections += 1
        self._probe_until = 0.0
        self._consecutive = 0


class Judged(Protocol):
    @property
    def health(self) -> EngineHealth: ...

    def load(self) -> float: ...


AnyEngine = TypeVar("AnyEngine", bound=Judged)


def fit_among(engines: Sequence[AnyEngine]) -> Sequence[AnyEngine]:
    """The engines that may be asked; never none.

    Ejections never squeeze the traffic into a few engines that are full: then, where fewer than half are fit, all are
    asked as if none was ejected.
    """
    fit = [engine for engine in engines if engine.health.fit]
    if len(fit) == len(engines):
        return engines
    too_few = len(fit) < FEWEST_FIT_SHARE * len(engines)
    if not fit or (too_few and all(engine.load() >= 1 for engine in fit)):
        return engines
    return fit


def probe_among(engines: Sequence[AnyEngine]) -> AnyEngine | None:
    """An engine that the next request should try. The request is its probe from now on."""
    for engine in engines:
        if not engine.health.fit and engine.health.wants_probe:
            engine.health.begin_probe()
            return engine
    return None
