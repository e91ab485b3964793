"""What a policy must do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.request import RoutingRequest


class Policy(ABC):
    """Chooses among engines that serve the model and are fit. It is asked only where there is a choice."""

    @abstractmethod
    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:
        """One of two or more candidates, in microseconds and without waiting for anything."""
