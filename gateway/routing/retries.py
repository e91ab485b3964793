"""A bound on retries, so that engines in trouble are not asked more than before by all that they failed."""

import time
from collections.abc import Callable

SHARE = 0.2
FLOOR = 10
"""Retries that are always allowed in a window; a share of few requests would be none."""
WINDOW_S = 10.0
STEPS = 10


class RetryBudget:
    """Retries are at most a fifth of the requests of the last ten seconds, or ten (Envoy, "Retry budgets").

    Each gateway counts for itself. Costs an addition a request.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = [0] * STEPS
        self._retries = [0] * STEPS
        self._step = 0

    def note_request(self) -> None:
        self._requests[self._current()] += 1

    def take(self) -> bool:
        """Whether one more retry is allowed; it then counts."""
        current = self._current()
        if sum(self._retries) >= max(FLOOR, SHARE * sum(self._requests)):
            return False
        self._retries[current] += 1
        return True

    def _current(self) -> int:
        step = int(self._clock() * STEPS / WINDOW_S)
        if step != self._step:
            for passed in range(max(self._step + 1, step - STEPS + 1), step + 1):
                self._requests[passed % STEPS] = self._retries[passed % STEPS] = 0
            self._step = step
        return step % STEPS
