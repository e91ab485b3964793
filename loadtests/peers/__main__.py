"""`python -m loadtests.peers`: the gateway beside its peers. `make bench-gateway` installs what it needs and runs it.

Progress goes to stderr. The last line of stdout is one JSON object: figure → {ours, peer…, ratio}, and `conditions`.
A group of figures that fails says so there, and in the exit code.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtests.peers.cache_hits import FROM_REDIS, IN_PROCESS, measure_cache_hits
from loadtests.peers.effort import FULL, QUICK, Effort
from loadtests.peers.gateway import GatewayUnderTest
from loadtests.peers.installation import versions
from loadtests.peers.open_streams import measure_open_streams
from loadtests.peers.pass_through import measure_pass_through
from loadtests.peers.processes import cores_busy_with_others
from loadtests.peers.real_engine import FIGURE as REAL_ENGINE
from loadtests.peers.real_engine import measure_real_engine
from loadtests.peers.servers import MODEL, Server, Servers
from loadtests.peers.stream_client import StreamFailed
from loadtests.peers.streams import measure_streams

Figures = dict[str, Any]
STREAMED = f"{MODEL}-streamed"
"""What LiteLLM calls the model of the engine that streams."""
FILES_PER_STREAM = 2  # in the gateway
OTHER_FILES = 500


def through(folder: Path, stack: ExitStack, effort: Effort) -> Figures:
    """Requests and streams in one group, since LiteLLM alone takes as long to start as all others together."""
    servers = Servers(folder, stack)
    upstream, engine = servers.static_upstream(), servers.stream_engine()
    with ThreadPoolExecutor() as threads:
        starting = threads.submit(servers.litellm, {MODEL: upstream, STREAMED: engine.url})
        whole = [servers.vllm_router(upstream), servers.vllm_router(upstream, "cache_aware"), servers.nginx(upstream)]
        whole += [servers.asgi(upstream), servers.fastapi(upstream)]
        streamed = [servers.nginx(engine.url), servers.vllm_router(engine.url)]
        litellm = starting.result()
    ours = GatewayUnderTest(upstream, folder / "gateway", stack).server
    figures = measure_pass_through(ours, [*whole, litellm], folder, effort)
    ours = GatewayUnderTest(engine.url, folder / "gateway-streams", stack).server
    return figures | measure_streams(engine, ours, [*streamed, replace(litellm, model=STREAMED)], effort)


def cache_hits(folder: Path, stack: ExitStack, effort: Effort) -> Figures:
    servers = Servers(folder, stack)
    upstream = servers.static_upstream()
    ours = GatewayUnderTest(upstream, folder / "redis-only", stack, {"FLYWHEEL_CACHE__LOCAL_BYTES": "0"})
    figures = measure_cache_hits(FROM_REDIS, ours.server, servers.redis_get(ours.redis_url), folder, effort)
    with_memory = GatewayUnderTest(upstream, folder / "with-memory", stack).server
    return figures | measure_cache_hits(IN_PROCESS, with_memory, servers.empty_uvicorn(), folder, effort)


def open_streams(folder: Path, _stack: ExitStack, effort: Effort) -> Figures:
    figures: Figures = {}
    allowed = allow_open_files()
    room = (allowed - OTHER_FILES) // FILES_PER_STREAM
    for number in sorted({min(wanted, room) for wanted in effort.open_streams}):
        with ExitStack() as gateway_stack:  # a fresh process, whose memory nothing has stretched
            place = folder / f"{number}"
            place.mkdir()
            engine = Servers(place, gateway_stack).stream_engine()
            ours = GatewayUnderTest(engine.url, place / "gateway", gateway_stack).server
            figures |= measure_open_streams(engine, ours, number, chunks=effort.chunks_per_open_stream)
    return figures


def real_engine(folder: Path, stack: ExitStack, effort: Effort) -> Figures:
    url = os.environ.get("ENGINE")
    if not url:
        return {REAL_ENGINE: {"skipped": "no engine was given, as ENGINE=http://127.0.0.1:8100"}}
    engine = Server("straight", url.rstrip("/"), "none", 0)
    ours = GatewayUnderTest(engine.url, folder / "gateway", stack).server
    return measure_real_engine(engine, ours, effort)


GROUPS: dict[str, Callable[[Path, ExitStack, Effort], Figures]] = {
    "through": through,
    "cache-hits": cache_hits,
    "open-streams": open_streams,
    "real-engine": real_engine,
}


def allow_open_files() -> int:
    """Lets us and all that we start open as many files as the machine allows; that number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def conditions(effort: Effort, busy_cores: dict[str, float]) -> dict[str, Any]:
    return {
        "cores_busy_with_others": busy_cores,
        "rounds": effort.rounds,
        "cores": os.cpu_count(),
        "pinned": False,
        "python": platform.python_version(),
        "versions": versions(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-gateway", description="The gateway beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; under 5 minutes")
    parser.add_argument("--only", choices=GROUPS, action="append", help="measure this group of figures (repeatable)")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    figures: Figures = {}
    busy_cores: dict[str, float] = {}
    failed = False
    for name in arguments.only or GROUPS:
        busy_cores[name] = cores_busy_with_others()
        started_at = time.monotonic()
        try:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-peers-")))
                found = GROUPS[name](folder, stack, effort)
        except (AssertionError, RuntimeError, StreamFailed) as error:  # what the other groups found is kept
            found, failed = {name: {"failed": str(error)}}, True
        for figure, values in found.items():
            print(f"  {figure:<45} {json.dumps(values, ensure_ascii=False)}", file=sys.stderr)
        print(f"{name} took {time.monotonic() - started_at:.0f} s", file=sys.stderr, flush=True)
        figures |= found
    print(json.dumps(figures | {"conditions": conditions(effort, busy_cores)}, ensure_ascii=False))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
