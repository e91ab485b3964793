"""Requests that are not streamed and that no cache may answer: what a gateway adds to each."""

import json
from pathlib import Path
from typing import Any

from loadtests.peers.effort import Effort
from loadtests.peers.rounds import Values, by_turns, compare
from loadtests.peers.servers import MODEL, Server
from loadtests.peers.wrk import run_wrk

THROUGHPUT = "pass-through, 32 connections (req/s)"
COST = "pass-through, CPU time a request (µs)"
LATENCY = "pass-through, 1 connection (p50, ms)"
QUESTION = "What is a flywheel, and what would one use it for in a power station? Answer in two or three sentences."


def measure_pass_through(ours: Server, peers: list[Server], folder: Path, effort: Effort) -> dict[str, Any]:
    body = folder / "pass-through.json"
    body.write_text(json.dumps(chat_request()))

    def measure(server: Server) -> Values:
        many = run_wrk(server, body=body, connections=32, duration_s=effort.wrk_s)
        alone = run_wrk(server, body=body, connections=1, duration_s=effort.wrk_alone_s)
        return {THROUGHPUT: many.requests_per_s, COST: many.cpu_us, LATENCY: alone.p50_ms}

    for server in (ours, *peers):
        run_wrk(server, body=body, connections=32, duration_s=1)  # warms up
    pairs = by_turns(measure, ours, peers, rounds=effort.rounds)
    return {figure: compare(pairs, figure) for figure in (THROUGHPUT, COST, LATENCY)}


def chat_request(**fields: object) -> dict[str, object]:
    """A plain question of 0.2 KB, which names no temperature and hence never repeats."""
    return {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, **fields}
