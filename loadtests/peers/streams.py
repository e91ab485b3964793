"""Streams: how many events go through, and how much later each arrives than straight from the engine."""

from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from loadtests.peers.effort import Effort
from loadtests.peers.processes import cpu_s
from loadtests.peers.rounds import Values, by_turns, compare, compare_added
from loadtests.peers.servers import Server
from loadtests.peers.stream_client import Load, Seen, run_load

THROUGH = "streams, 32 at once (chunks/s through)"
COST = "streams, CPU time a chunk (µs)"
FIRST_TOKEN = "streams, added time to first token (p50, ms)"
GAP = "streams, added time between tokens (p99, ms)"
DELAY = "streams, added delay of a token (p50, ms)"
PACED = Load(streams=8, chunks=10, gap_ms=20, ramp_s=0.2)  # begun one after the other, as requests come


def measure_streams(engine: Server, ours: Server, peers: list[Server], effort: Effort) -> dict[str, Any]:
    def measure(server: Server) -> Values:
        paced = replace(PACED, repeat_s=effort.streams_s)
        straight, through = _summary(run_load(engine, paced)), _summary(run_load(server, paced))
        added = {figure: through[figure] - straight[figure] for figure in straight}
        return {**added, **flood(server, effort)}

    for server in (ours, *peers):
        run_load(server, PACED)  # warms up
    pairs = by_turns(measure, ours, peers, rounds=effort.rounds)
    whole = {figure: compare(pairs, figure) for figure in (THROUGH, COST)}
    whole[THROUGH]["straight"] = median(flood(engine, effort)[THROUGH] for _ in range(effort.rounds))
    return whole | {figure: compare_added(pairs, figure) for figure in (FIRST_TOKEN, GAP, DELAY)}


def flood(server: Server, effort: Effort) -> Values:
    """Streams that the engine writes as fast as they are taken, one event a write.

    Engine and client are programs in Python too, on the same cores: what they do without a gateway, `straight`, bounds
    what goes through. The CPU time of the gateway's own process has no such bound.
    """
    before = cpu_s(server.pid)
    seen = run_load(server, Load(streams=32, chunks=100, gap_ms=0, repeat_s=effort.streams_s))
    return {THROUGH: seen.events / seen.took_s, COST: (cpu_s(server.pid) - before) / seen.events * 1e6}


def _summary(seen: Seen) -> dict[str, float]:
    return {
        FIRST_TOKEN: median(seen.first_token_s) * 1e3,
        GAP: percentile(seen.gaps_s, 99) * 1e3,
        DELAY: median(seen.delays_s) * 1e3,
    }


def percentile(values: Any, percent: int) -> float:
    return quantiles(values, n=100)[percent - 1]
