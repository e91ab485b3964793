"""Who may talk to whom, by the network policies of what is rendered: everything that is needed, and nothing else."""

from itertools import product

import pytest

from deploy.checks.network import Network, Peer
from tests.deploy.rendered import container, rendered

ANYBODY = Peer("a pod of another namespace", {}, ours=False)
PROMETHEUS = Peer("prometheus", {"app.kubernetes.io/name": "prometheus"}, ours=False)
INTRUDER = Peer("a pod of ours that nobody knows", {"app.kubernetes.io/name": "intruder"})
INTERNET = Peer("the internet", {}, ours=False, in_cluster=False)
SERVICES = ("gateway", "engine", "worker", "releases")
PORTS = {"gateway": 8000, "engine": 8100, "valkey": 6379}

BASE = {
    *(("gateway", "engine"), ("worker", "engine"), ("worker", "gateway")),
    *((service, "valkey") for service in (*SERVICES, "cli")),
    *((peer.name, "gateway") for peer in (ANYBODY, PROMETHEUS)),
    (PROMETHEUS.name, "engine"),
}
TRAINERS = {("trainers", "engine"), ("trainers", "gateway"), ("trainers", "valkey")}


def connections(name: str) -> set[tuple[str, str]]:
    """Every pair that may connect, to the port at which the second one listens."""
    network = Network(rendered(name))
    pods = {"migrate" if pod == "flywheel-migrate" else pod: peer for pod, peer in network.pods.items()}
    sources = [*pods.items(), *((peer.name, peer) for peer in (ANYBODY, PROMETHEUS, INTRUDER))]
    ports = PORTS | ({"postgresql": 5432} if "postgresql" in pods else {})
    return {
        (source, target)
        for (source, peer), (target, port) in product(sources, ports.items())
        if source != target and network.may(peer, pods[target], port)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", BASE),
        ("trainers", BASE | TRAINERS),
        ("overlays/cpu", BASE),
        ("overlays/gpu", BASE),
        ("overlays/production", BASE | {("evals", "gateway")}),
        ("overlays/local", BASE | {(service, "postgresql") for service in (*SERVICES, "migrate", "cli")}),
    ],
)
def test_exactly_these_may_connect(name: str, expected: set[tuple[str, str]]) -> None:
    assert connections(name) == expected


@pytest.mark.parametrize("name", ["base", "overlays/gpu", "overlays/production"])
def test_state_and_weights_can_be_had_from_outside_and_nothing_else(name: str) -> None:
    network = Network(rendered(name))
    for service in SERVICES:
        assert network.may(network.pods[service], INTERNET, 5432)
        assert network.may(network.pods[service], INTERNET, 443)
        assert not network.may(network.pods[service], INTERNET, 80)
        assert not network.may(network.pods[service], INTERNET, 25)
        assert network.may(network.pods[service], ANYBODY, 53, protocol="UDP")
    assert not network.may(network.pods["valkey"], INTERNET, 443)
    assert not network.may(INTERNET, network.pods["engine"], 8100)


def test_a_backup_reaches_the_database_and_buckets_and_nothing_reaches_it() -> None:
    network = Network(rendered("overlays/production"))
    assert network.may(network.pods["backup"], INTERNET, 5432)
    assert network.may(network.pods["backup"], INTERNET, 443)
    assert not network.may(network.pods["evals"], INTERNET, 443)
    assert not any(network.may(peer, network.pods["backup"], 80) for peer in (ANYBODY, PROMETHEUS, INTRUDER))


def test_trainers_meet_on_any_port_and_nobody_else_reaches_them() -> None:
    network = Network(rendered("trainers"))
    trainers = network.pods["trainers"]
    assert network.may(trainers, trainers, 29500)
    assert network.may(trainers, trainers, 41234)
    assert not any(network.may(peer, trainers, 29500) for peer in (ANYBODY, INTRUDER, network.pods["gateway"]))


def test_the_ports_are_those_that_containers_listen_at() -> None:
    listening = {
        each["metadata"]["name"]: port["containerPort"]
        for each in rendered("base")
        if "template" in each.get("spec", {})
        for port in container(each).get("ports", [])
    }
    assert listening == PORTS
