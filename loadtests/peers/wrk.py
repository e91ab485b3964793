"""Runs wrk: a closed loop of POSTs over kept connections, one thread."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.processes import cpu_s
from loadtests.peers.servers import Server
from tests.debian import program

SCRIPT = Path(__file__).with_name("post.lua")
ENOUGH_REQUESTS = 10  # a connection
LONGEST_S = 16


@dataclass(frozen=True, slots=True)
class WrkResult:
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server's processes, a request


def run_wrk(
    server: Server, *, body: Path, connections: int, duration_s: int, other_keys: Sequence[str] = ()
) -> WrkResult:
    """Asks with the server's key and the others by turns.

    Measures longer where fewer than ten requests a connection end: those cut off at the end would weigh too much.
    Raises RuntimeError when a single request failed: errors are cheap, and would count as speed.
    """
    command = [*program("wrk"), "--threads", "1", "--connections", str(connections), "--duration", f"{duration_s}s"]
    command += ["--timeout", "30s", "--latency", "--script", str(SCRIPT), server.chat_url, "--", str(body), server.key]
    command += other_keys
    cpu_before_s = cpu_s(server.pid)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent_s = cpu_s(server.pid) - cpu_before_s
    told = json.loads(done.stdout.strip().splitlines()[-1])
    if told["errors"]:
        raise RuntimeError(f"{server.name}: {told['errors']} of {told['requests']} requests failed")
    if told["requests"] < connections * ENOUGH_REQUESTS and duration_s < LONGEST_S:
        return run_wrk(server, body=body, connections=connections, duration_s=duration_s * 4, other_keys=other_keys)
    if not told["requests"]:
        raise RuntimeError(f"{server.name}: no request ended within {duration_s} s")
    return WrkResult(
        requests_per_s=told["requests"] / told["duration_us"] * 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        cpu_us=spent_s / told["requests"] * 1e6,
    )
