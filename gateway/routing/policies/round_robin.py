"""One after the other."""

from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.policies.base import Policy
from gateway.routing.request import RoutingRequest


class RoundRobin(Policy):
    """Each engine gets as many requests, whatever they cost. What others are measured against."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:  # noqa: ARG002
        self._turn += 1
        return candidates[self._turn % len(candidates)]
