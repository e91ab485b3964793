"""Which engines a choice by load compares, given how old what it knows of their load is."""

import random
from collections.abc import Sequence

from gateway.routing.engine import Engine

SEVERAL = 2


class Sample:
    """All engines where their load is this gateway's own, which it knows at once; otherwise two taken at random.

    Other gateways' requests are known from leases, seconds late. Were all engines compared, all gateways would send to
    the one that looked idlest until its next lease (Mitzenmacher, 2000, "How useful is old information?").
    """

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 (no secret)

    def of(self, engines: Sequence[Engine], loads: Sequence[float]) -> Sequence[int]:
        """Their places in `engines`, of which `loads` are the loads."""
        places = range(len(engines))
        if len(engines) <= SEVERAL:
            return places
        ours = sum(engine.in_flight for engine in engines)
        everyones = sum(load * engine.lease.capacity for engine, load in zip(engines, loads, strict=True))
        return places if ours >= everyones else self._random.sample(places, SEVERAL)
