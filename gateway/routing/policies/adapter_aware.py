"""The engine that has an adapter at hand."""

from collections.abc import Sequence

from gateway.routing.engine import Engine
from gateway.routing.policies.base import Policy
from gateway.routing.policies.least_loaded import LeastLoaded
from gateway.routing.policies.session_affinity import stay
from gateway.routing.request import RoutingRequest


class AdapterAware(Policy):
    """Each adapter keeps to one engine, so that batches need not exchange the few adapters that vLLM runs at once.

    All candidates have loaded the adapter, but only `max_loras` of those loaded fit into a batch. Requests for a base
    model go to the least loaded engine.
    """

    def __init__(self) -> None:
        self._least_loaded = LeastLoaded()

    def choose(self, candidates: Sequence[Engine], request: RoutingRequest) -> Engine:
        if all(engine.lease.model == request.model for engine in candidates):
            return self._least_loaded.choose(candidates, request)
        return stay(candidates, request.model)
