"""The engine that a session has always had."""

from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.policies.base import Policy
from gateway.routing.policies.least_loaded import LeastLoaded
from gateway.routing.rendezvous import key_of, top_two
from gateway.routing.request import RoutingRequest


class SessionAffinity(Policy):
    """A session stays where hashing puts it, in every gateway, unless that engine is full and its second is not.

    Requests without a session go to the least loaded engine.
    """

    def __init__(self) -> None:
        self._least_loaded = LeastLoaded()

    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:
        if request.session is None:
            return self._least_loaded.choose(candidates, request)
        return stay(candidates, request.session)


def stay(candidates: Sequence[Engine], name: str) -> Engine:
    """The engine that hashing prefers for the name, or the next one while that is full."""
    first, second = (candidates[place] for place in top_two(key_of(name), [engine.seed for engine in candidates]))
    return second if first.load() >= 1 > second.load() else first
