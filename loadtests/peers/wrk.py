"""Runs wrk: a closed loop of POSTs over kept connections, one thread."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.installation import program

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, slots=True)
class WrkResult:
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def run_wrk(url: str, *, body: Path, key: str, connections: int, duration_s: int) -> WrkResult:
    """Raises RuntimeError when a single request failed: errors are cheap, and would count as speed."""
    command = [*program("wrk"), "--threads", "1", "--connections", str(connections), "--duration", f"{duration_s}s"]
    command += ["--timeout", "30s", "--latency", "--script", str(SCRIPT), url, "--", str(body), key]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    if told["errors"] or not told["requests"]:
        raise RuntimeError(f"{url}: {told['errors']} of {told['requests']} requests failed")
    return WrkResult(
        requests=told["requests"],
        requests_per_s=told["requests"] / told["duration_us"] * 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
    )
