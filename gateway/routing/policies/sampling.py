"""Which engines a choice by load compares, given how old what it knows of their load is."""

import random
from collections.abc import Sequence

from gateway.routing.engine import Engine

SEVERAL = 2


def compared(engines: Sequence[Engine], loads: Sequence[float]) -> Sequence[int]:
    """Places in `engines`, of which `loads` are the loads: all of them, or two at random where others' requests count.

    A gateway knows its own requests at once, and those of others from leases, seconds late. Were all engines compared,
    all gateways would send to the one that looked idlest until its next lease (Mitzenmacher, 2000, "How useful is old
    information?").
    """
    places = range(len(engines))
    if len(engines) <= SEVERAL:
        return places
    ours = sum(engine.in_flight for engine in engines)
    everyones = sum(load * engine.lease.capacity for engine, load in zip(engines, loads, strict=True))
    return places if ours >= everyones else random.sample(places, SEVERAL)
