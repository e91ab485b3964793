"""The engine with the least to do."""

from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.policies.base import Policy
from gateway.routing.policies.sampling import compared
from gateway.routing.request import RoutingRequest


class LeastLoaded(Policy):
    """The least full engine of a sample; equals take turns, so that an idle fleet is used evenly."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:  # noqa: ARG002
        self._turn += 1
        loads = [engine.load() for engine in candidates]
        places = compared(candidates, loads)
        least = min(loads[place] for place in places)
        equals = [place for place in places if loads[place] == least]
        return candidates[equals[self._turn % len(equals)]]
