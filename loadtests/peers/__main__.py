"""`python -m loadtests.peers`: the gateway beside its peers. `make bench-gateway` installs what it needs and runs it.

Progress goes to stderr. The last line of stdout is one JSON object: figure → {ours, peer…, ratio}, and `conditions`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.peers.effort import FULL, QUICK, Effort
from loadtests.peers.gateway import GatewayUnderTest
from loadtests.peers.installation import versions
from loadtests.peers.pass_through import measure_pass_through
from loadtests.peers.servers import Servers

Figures = dict[str, Any]


def pass_through(folder: Path, stack: ExitStack, effort: Effort) -> Figures:
    servers = Servers(folder, stack)
    upstream = servers.static_upstream()
    ours = GatewayUnderTest(upstream, folder / "gateway", stack).server
    start = (
        servers.vllm_router,
        servers.vllm_router_by_default,
        servers.nginx,
        servers.asgi,
        servers.fastapi,
        servers.litellm,
    )
    return measure_pass_through(ours, [peer(upstream) for peer in start], folder, effort)


GROUPS: dict[str, Callable[[Path, ExitStack, Effort], Figures]] = {"pass-through": pass_through}


def cores_busy_with_others(seconds: float = 1.0) -> float:
    """How many cores are at work while we do nothing: above 0.1, trust the ratios only."""
    before = _busy_s()
    time.sleep(seconds)
    return round((_busy_s() - before) / seconds, 2)


def _busy_s() -> float:
    """Seconds that all cores together were at work since the machine started (proc(5), /proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def conditions(effort: Effort, busy_cores: list[float]) -> dict[str, Any]:
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
    busy_cores = []
    for name in arguments.only or GROUPS:
        busy_cores.append(cores_busy_with_others())
        started_at = time.monotonic()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-peers-")))
            found = GROUPS[name](folder, stack, effort)
        for figure, values in found.items():
            print(f"  {figure:<45} {json.dumps(values, ensure_ascii=False)}", file=sys.stderr)
        print(f"{name} took {time.monotonic() - started_at:.0f} s", file=sys.stderr, flush=True)
        figures |= found
    print(json.dumps(figures | {"conditions": conditions(effort, busy_cores)}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
