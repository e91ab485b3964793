"""`python -m loadtests.redis_cluster`: the gateway over a Redis cluster beside the gateway over one Redis.

Two gateways before the same static upstream: one with a Valkey, one with a cluster of three primaries with a replica
each, all on this machine. wrk asks with three keys by turns, whose tenants lie on the three primaries. Medians of
gateways by turns, and ratios of neighbours (cluster ÷ one). Where all share the same cores, six servers in place of one
can only cost: the figures say how much, not what a cluster of machines would give.

Progress goes to stderr; the last line of stdout is one JSON object.
"""

import itertools
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.peers.cache_hits import make_hit
from loadtests.peers.gateway import NEVER_REACHED, GatewayUnderTest
from loadtests.peers.pass_through import chat_request
from loadtests.peers.processes import cores_busy_with_others
from loadtests.peers.rounds import Values, by_turns, compare
from loadtests.peers.servers import Server, Servers
from loadtests.peers.wrk import run_wrk
from store import redis_names
from tests.valkey_cluster import ValkeyCluster

ROUNDS, SECONDS, SECONDS_ALONE = 5, 2, 1
CONNECTIONS = 32
RATES = {"requests_per_minute": NEVER_REACHED, "tokens_per_minute": NEVER_REACHED}
KEYS: dict[str, dict[str, object]] = {
    "each request counted in Redis": RATES | {"concurrency": 100_000},
    "permits taken ahead": RATES,
    "cache hits from Redis": RATES,
}
HITS = "cache hits from Redis"


class Side:
    """One of the two gateways, with keys of each kind, one for each tenant."""

    def __init__(self, name: str, gateway: GatewayUnderTest, tenants: list[str]) -> None:
        self._name, self._of = name, gateway.server
        self._keys = {
            kind: [gateway.process.new_key(tenant=tenant, **fields).secret for tenant in tenants]
            for kind, fields in KEYS.items()
        }

    def server(self, kind: str) -> Server:
        return Server(self._name, self._of.url, self._keys[kind][0], self._of.pid)

    def other_keys(self, kind: str) -> list[str]:
        return self._keys[kind][1:]


def main() -> None:
    busy = cores_busy_with_others()
    with tempfile.TemporaryDirectory(prefix="flywheel-redis-cluster-") as place, ExitStack() as stack:
        folder = Path(place)
        upstream = Servers(folder, stack).static_upstream()
        settings = {"FLYWHEEL_CACHE__LOCAL_BYTES": "0"}
        one = GatewayUnderTest(upstream, folder / "one", stack, settings)
        cluster = ValkeyCluster(folder / "nodes")
        stack.callback(cluster.stop)
        settings["FLYWHEEL_JOBS_REDIS_URL"] = one.redis_url
        many = GatewayUnderTest(upstream, folder / "cluster", stack, settings, redis_url=cluster.url)
        tenants = tenant_of_each_primary(cluster)
        sides = {name: Side(name, gateway, tenants) for name, gateway in {"one": one, "cluster": many}.items()}
        figures: dict[str, Any] = {}
        for kind in KEYS:
            figures |= measure(kind, sides, folder)
            print(json.dumps(figures, indent=1), file=sys.stderr, flush=True)
    print(json.dumps(figures | {"conditions": {"rounds": ROUNDS, "cores_busy_with_others": busy}}))


def tenant_of_each_primary(cluster: ValkeyCluster) -> list[str]:
    tenants: dict[int, str] = {}
    for number in itertools.count():
        if len(tenants) == len(cluster.primaries()):
            break
        tenants.setdefault(cluster.primary(redis_names.buckets(f"tenant-{number}")).port, f"tenant-{number}")
    return [*tenants.values()]


def measure(kind: str, sides: dict[str, Side], folder: Path) -> dict[str, Any]:
    question = chat_request(temperature=0) if kind == HITS else chat_request()
    body = folder / "body.json"
    body.write_text(json.dumps(question))

    def run(server: Server) -> Values:
        others = sides[server.name].other_keys(kind)
        many = run_wrk(server, body=body, connections=CONNECTIONS, duration_s=SECONDS, other_keys=others)
        alone = run_wrk(server, body=body, connections=1, duration_s=SECONDS_ALONE, other_keys=others)
        return {
            f"{kind}, {CONNECTIONS} connections (req/s)": many.requests_per_s,
            f"{kind}, {CONNECTIONS} connections (p50, ms)": many.p50_ms,
            f"{kind}, {CONNECTIONS} connections (p99, ms)": many.p99_ms,
            f"{kind}, CPU time of the gateway a request (µs)": many.cpu_us,
            f"{kind}, 1 connection (p50, ms)": alone.p50_ms,
        }

    for name, side in sides.items():
        if kind == HITS:
            for key in (side.server(kind).key, *side.other_keys(kind)):
                make_hit(Server(name, side.server(kind).url, key, 0), question)
        run_wrk(side.server(kind), body=body, connections=CONNECTIONS, duration_s=1, other_keys=side.other_keys(kind))
    pairs = by_turns(run, sides["cluster"].server(kind), [sides["one"].server(kind)], rounds=ROUNDS)
    compared = {figure: compare(pairs, figure) for figure in pairs[0].ours}
    return {
        figure: {"cluster": found["ours"], "one": found["one"], "cluster ÷ one": found["ratio"]["one"]}
        for figure, found in compared.items()
    }


if __name__ == "__main__":
    main()
