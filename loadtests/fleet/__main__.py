"""`python -m loadtests.fleet`: routing policies over growing fleets, in simulated time.

The routing code and the fair queue are the gateway's own. Policies compared while engines, gateways and users grow
together, and while the same engines get more gateways; SGLang's published comparison, again; and what a gateway pays
for each more engine. Draws docs/images/fleet-*.svg. With `--far` instead: what is lost where a gateway knows only some
engines, and a fleet of 10,000 engines, 1,000 gateways and a million requests (8 GiB of memory, under two hours of a
core). Progress goes to stderr; the only line of stdout is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.settings import RoutingPolicyName
from loadtests.fleet.growth import cost_of
from loadtests.fleet.plots import draw_growth, draw_policies
from loadtests.fleet.published import throughput
from loadtests.fleet.simulation import Scenario, simulate

POLICIES: tuple[RoutingPolicyName, ...] = ("round_robin", "least_loaded", "prefix_aware")
REQUESTS_PER_S_AN_ENGINE = 5.0
ENGINES_A_GATEWAY = 8
IMAGES = Path(__file__).resolve().parents[2] / "docs/images"


def compare(
    engines: int,
    gateways: int,
    requests_an_engine: int,
    *,
    known: int | None = None,
    policies: Sequence[RoutingPolicyName] = POLICIES,
) -> dict[str, Any]:
    figures: dict[str, Any] = {"engines": engines, "gateways": gateways, "requests": engines * requests_an_engine}
    figures["engines_known"] = known or engines
    rate = engines * REQUESTS_PER_S_AN_ENGINE
    for policy in policies:
        scenario = Scenario(policy, engines, gateways, figures["requests"], requests_per_s=rate, engines_known=known)
        figures[policy] = simulate(scenario).figures()
        _tell(f"{engines} engines, {known or 'all'} known, {gateways} gateways, {policy}: {figures[policy]}")
    return figures


def far() -> dict[str, Any]:
    known = [compare(1000, 100, 100, known=each, policies=("prefix_aware",)) for each in (None, 200, 100, 50)]
    return {"known": known, "far": compare(10_000, 1000, 100, known=100)}


def reproduce(requests: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"requests": requests}
    for policy in POLICIES:
        tokens_per_s, outcome = throughput(policy, requests)
        figures[policy] = {"tokens_per_s": round(tokens_per_s), "hit_rate": round(outcome.hit_rate, 3)}
        _tell(f"published workload, {policy}: {figures[policy]}")
    aware, plain = figures["prefix_aware"], figures["round_robin"]
    figures["throughput_ratio"] = round(aware["tokens_per_s"] / plain["tokens_per_s"], 2)
    figures["hit_rate_ratio"] = round(aware["hit_rate"] / plain["hit_rate"], 2)
    return figures


def grow(sizes: tuple[int, ...], requests: int) -> list[dict[str, Any]]:
    costs = []
    for engines in sizes:
        costs.append(cost_of(engines, POLICIES, requests))
        _tell(f"cost: {costs[-1]}")
    return costs


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller fleets, under a minute, no pictures")
    parser.add_argument("--far", action="store_true", help="the largest fleet instead, under two hours, no pictures")
    arguments = parser.parse_args()
    if arguments.far:
        print(json.dumps(far()), flush=True)
        return
    quick = arguments.quick
    sizes, costs = ((2, 8), (10, 100)) if quick else ((4, 16, 64), (10, 100, 1000, 10_000))
    alike, beside, requests = (8, (1, 4), 100) if quick else (16, (1, 4, 16), 200)
    figures = {
        "engines": [compare(engines, max(1, engines // ENGINES_A_GATEWAY), requests) for engines in sizes],
        "gateways": [compare(alike, gateways, requests) for gateways in beside],
        "published": reproduce(1000 if quick else 4000),
        "growth": grow(costs, 100 if quick else 1000),
    }
    if not quick:
        draw_policies(figures["engines"], "engines", IMAGES)
        draw_policies(figures["gateways"], "gateways", IMAGES)
        draw_growth(figures["growth"], IMAGES)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
