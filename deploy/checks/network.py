"""Who may talk to whom: evaluates the network policies of rendered manifests as a network plugin would.

(kubernetes.io, "Network Policies": a pod that no policy selects is open; else the union of what its policies allow.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deploy.checks.render import Manifest, pod_template

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A pod, ours or of another namespace, or with no labels at all something outside the cluster."""

    name: str
    labels: Labels = field(default_factory=dict)
    ours: bool = True
    in_cluster: bool = True


class Network:
    """Of one namespace."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        rendered = list(manifests)
        self._policies = [each["spec"] for each in rendered if each["kind"] == "NetworkPolicy"]
        self.pods = {
            each["metadata"]["name"]: Peer(each["metadata"]["name"], template["metadata"]["labels"])
            for each in rendered
            if (template := pod_template(each)) is not None
        }

    def may(self, source: Peer, target: Peer, port: int, *, protocol: str = "TCP") -> bool:
        """Whether a connection comes about: its source lets it out, and its target lets it in."""
        out = not source.ours or self._allows("Egress", "to", source, target, port, protocol)
        into = not target.ours or self._allows("Ingress", "from", target, source, port, protocol)
        return out and into

    def _allows(self, direction: str, key: str, own: Peer, other: Peer, port: int, protocol: str) -> bool:
        selecting = [
            policy
            for policy in self._policies
            if direction in policy["policyTypes"] and _selects(policy["podSelector"], own.labels)
        ]
        if not selecting:
            return True
        rules = [rule for policy in selecting for rule in policy.get(direction.lower(), [])]
        return any(_has_port(rule, port, protocol) and _has_peer(rule.get(key), other) for rule in rules)


def _has_port(rule: Manifest, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return ports is None or any(each["port"] == port and each.get("protocol", "TCP") == protocol for each in ports)


def _has_peer(peers: list[Manifest] | None, other: Peer) -> bool:
    return peers is None or any(_is_peer(peer, other) for peer in peers)


def _is_peer(peer: Manifest, other: Peer) -> bool:
    if "ipBlock" in peer:
        raise NotImplementedError("addresses in policies are not evaluated")
    if not other.in_cluster:
        return False
    if "namespaceSelector" in peer:
        if peer["namespaceSelector"]:
            raise NotImplementedError("labels of namespaces are not evaluated")
    elif not other.ours:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Manifest, labels: Labels) -> bool:
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _meets(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _meets(expression: Manifest, labels: Labels) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case unknown:
            raise ValueError(f"unknown operator {unknown}")
