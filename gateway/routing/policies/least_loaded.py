"""The engine with the least to do."""

from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.policies.base import Policy
from gateway.routing.request import RoutingRequest


class LeastLoaded(Policy):
    """The least full engine; equals take turns, so that an idle fleet is used evenly."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:  # noqa: ARG002
        self._turn += 1
        loads = [engine.load() for engine in candidates]
        least = min(loads)
        equals = [engine for engine, load in zip(candidates, loads, strict=True) if load == least]
        return equals[self._turn % len(equals)]
