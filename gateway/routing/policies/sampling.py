"""Which engines a choice by load compares, given how old what it knows of their load is."""

import math
import random
from collections.abc import Sequence

from gateway.routing.engine import Engine

FEWEST = 2


class Sample:
    """All engines where their load is this gateway's own, which it knows at once; the fewer the less of it is.

    Other gateways' requests are known from leases, seconds late. Were all engines compared, all gateways would send to
    the one that looked idlest until its next lease, and two taken at random do better (Mitzenmacher, 2000, "How useful
    is old information?").
    """

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 (no secret)

    def of(self, engines: Sequence[Engine], loads: Sequence[float]) -> Sequence[int]:
        """Their places in `engines`, of which `loads` are the loads."""
        number = len(engines)
        if number <= FEWEST:
            return range(number)
        known = sum(engine.in_flight for engine in engines)
        reckoned = sum(load * engine.lease.capacity for engine, load in zip(engines, loads, strict=True))
        if known >= reckoned:
            return range(number)
        return self._random.sample(range(number), max(FEWEST, math.ceil(number * known / reckoned)))
