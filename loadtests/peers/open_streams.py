"""Thousands of streams held open by one gateway process: do all come through, evenly, and at what memory."""

from statistics import median
from typing import Any

from loadtests.peers.processes import resident_bytes
from loadtests.peers.servers import Server
from loadtests.peers.stream_client import Load, Seen, run_load
from loadtests.peers.streams import percentile

GAP_MS = 500
STREAMS_A_SECOND = 1000  # how fast they are opened


def measure_open_streams(engine: Server, ours: Server, streams: int, *, chunks: int) -> dict[str, Any]:
    """{ours: …, straight: …}: the second is the same load without a gateway, which is what client and engine can do."""
    load = Load(streams=streams, chunks=chunks, gap_ms=GAP_MS, ramp_s=streams / STREAMS_A_SECOND)
    run_load(ours, Load(streams=100, chunks=2, gap_ms=10))  # warms up
    before, held = resident_bytes(ours.pid), []
    through = run_load(ours, load, when_all_open=lambda: held.append(resident_bytes(ours.pid)))
    mine = _evenness(through) | {"rss_per_stream_kb": round((held[0] - before) / streams / 1024, 1)}
    return {f"{streams} open streams": {"ours": mine, "straight": _evenness(run_load(engine, load))}}


def _evenness(seen: Seen) -> dict[str, float]:
    p50, p99 = median(seen.gaps_s), percentile(seen.gaps_s, 99)
    return {
        "completed": seen.completed,
        "most_open": seen.most_open,
        "gap_p50_ms": round(p50 * 1e3, 1),
        "gap_p99_ms": round(p99 * 1e3, 1),
        "p99_to_p50": round(p99 / p50, 3),
    }
