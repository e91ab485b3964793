"""How many requests an engine takes from this gateway, beside what it has of others."""

WINDOW_S = 2.0
"""A lease tells what vLLM's metrics said up to two renewals ago; two windows cover that."""
STEPS = 16


class Occupancy:
    """Our requests in flight at one engine, and how many of ours it may have.

    The engine's lease tells how many requests it has of all gateways, seconds late. What goes beyond the most that we
    had in that time is others', and leaves us the rest. Once the engine is full, every gateway gives way in proportion
    to what it holds and takes one step, a sixteenth of the capacity. That is additive increase and multiplicative
    decrease, which ends in about equal parts whatever they were at first (Chiu and Jain, 1989, "Analysis of the
    increase and decrease algorithms for congestion avoidance"), with a step of each gateway in the engine's own queue.
    """

    __slots__ = ("_peak", "_peak_before", "_window_ends", "allowance", "in_flight")

    def __init__(self, capacity: int) -> None:
        self.in_flight = 0
        self.allowance = capacity
        self._peak = self._peak_before = 0
        self._window_ends = 0.0

    def begin(self) -> None:
        self.in_flight += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight

    def end(self) -> None:
        self.in_flight -= 1

    def free(self) -> int:
        """Requests that it takes now; below 0 where it has more than it should."""
        return self.allowance - self.in_flight

    def renew(self, *, reported: int, capacity: int, now: float) -> None:
        """Looks at a lease that says `reported` requests at an engine that batches `capacity`. `now`: monotonic s."""
        ours = max(self._peak, self._peak_before)
        if reported <= ours:
            self.allowance = capacity
        elif reported < capacity:
            self.allowance = capacity - (reported - ours)
        else:
            self.allowance = ours * capacity // reported + max(1, capacity // STEPS)
        if now >= self._window_ends:
            self._peak_before, self._peak, self._window_ends = self._peak, self.in_flight, now + WINDOW_S
