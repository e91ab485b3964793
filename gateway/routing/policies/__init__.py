"""How one of several engines is chosen. A policy is a file, and a line in `POLICIES`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from contracts.settings import RoutingPolicyName
from gateway.routing.policies.adapter_aware import AdapterAware
from gateway.routing.policies.base import Policy
from gateway.routing.policies.least_loaded import LeastLoaded
from gateway.routing.policies.prefix_aware import PrefixAware
from gateway.routing.policies.round_robin import RoundRobin
from gateway.routing.policies.session_affinity import SessionAffinity

POLICIES: Mapping[RoutingPolicyName, Callable[[], Policy]] = MappingProxyType(
    {
        "round_robin": RoundRobin,
        "least_loaded": LeastLoaded,
        "prefix_aware": PrefixAware,
        "session_affinity": SessionAffinity,
        "adapter_aware": AdapterAware,
    }
)
