"""`python -m loadtests.peers.profile`: where the gateway's microseconds go, as two Markdown tables.

py-spy samples the gateway while wrk holds 32 connections busy; a sample's share of the time, times the time that a
request takes on the gateway's core, is what its place costs a request.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from loadtests.peers.gateway import GatewayUnderTest
from loadtests.peers.installation import peer_program
from loadtests.peers.pass_through import chat_request
from loadtests.peers.servers import Servers
from loadtests.peers.wrk import run_wrk

OURS = ("gateway/", "store/", "contracts/", "telemetry/")
ENTRY = "gateway/__main__.py"  # of the event loop's thread; other threads wait
LOOP = "event loop, sockets"
SAMPLES_PER_S = 500
WARM_UP_S = 2
SETTLE_S = 1  # py-spy starts within it
ROWS = 20
QUESTIONS = {"pass-through": chat_request(), "cache-hit": chat_request(temperature=0)}

Sample = tuple[tuple[str, ...], int]
"""Frames from the outermost to the innermost, and how often they were seen."""


def record(question: str, seconds: int) -> tuple[list[Sample], float]:
    """The samples, and requests/s while they were taken."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-profile-")))
        upstream = Servers(folder, stack).static_upstream()
        server = GatewayUnderTest(upstream, folder / "gateway", stack).server
        body, stacks = folder / "body.json", folder / "stacks"
        body.write_text(json.dumps(QUESTIONS[question]))
        run_wrk(server, body=body, connections=32, duration_s=WARM_UP_S)
        command = [peer_program("py-spy"), "record", "--pid", str(server.pid), "--format", "raw", "--full-filenames"]
        command += ["--rate", str(SAMPLES_PER_S), "--duration", str(seconds), "--output", str(stacks)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            result = run_wrk(server, body=body, connections=32, duration_s=seconds + SETTLE_S)
        return [_sample(line) for line in stacks.read_text().splitlines() if ENTRY in line], result.requests_per_s


def _sample(line: str) -> Sample:
    frames, _, count = line.rpartition(" ")
    return tuple(frames.split(";")), int(count)


def table(title: str, samples: Iterable[Sample], place: Callable[[tuple[str, ...]], str], request_us: float) -> str:
    seen: Counter[str] = Counter()
    for frames, count in samples:
        seen[place(frames)] += count
    total = seen.total()
    lines = [f"| {title} | µs a request | share |", "|---|---:|---:|"]
    for name, count in seen.most_common(ROWS):
        lines.append(f"| `{name}` | {count / total * request_us:.1f} | {count / total:.1%} |")
    return "\n".join(lines)


def our_innermost(frames: tuple[str, ...]) -> str:
    """The function of ours that was at work, in itself or in a library that it called."""
    names = map(_short, reversed(frames))
    return next((name for name in names if name.startswith(OURS) and not name.startswith(ENTRY)), LOOP)


def innermost(frames: tuple[str, ...]) -> str:
    return _short(frames[-1])


def _short(frame: str) -> str:
    """`admit (/…/gateway/limits/admission.py:44)` → `gateway/limits/admission.py admit`."""
    function, _, place = frame.rpartition(" (")
    path = place.rpartition(":")[0] or place.rstrip(")")
    for folder in OURS:
        if (at := path.rfind(f"/{folder}")) >= 0 and "site-packages" not in path:
            return f"{path[at + 1 :]} {function}"
    library = path.rpartition("site-packages/")[2] if "site-packages" in path else path.rpartition("/python3.11/")[2]
    return LOOP if library == "asyncio/runners.py" else f"{library} {function}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make profile-gateway")
    parser.add_argument("question", nargs="?", default="pass-through", choices=QUESTIONS)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    started_at = time.monotonic()
    samples, requests_per_s = record(arguments.question, arguments.seconds)
    request_us = 1e6 / requests_per_s
    print(f"{arguments.question}: {requests_per_s:.0f} requests/s, {request_us:.0f} µs each\n")
    print(table("ours, with what it calls", samples, our_innermost, request_us), end="\n\n")
    print(table("innermost Python function", samples, innermost, request_us))
    print(f"took {time.monotonic() - started_at:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
