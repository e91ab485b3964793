"""`python -m loadtests.load steady|spike|stress|soak`: a load test against real gateways and fake engines.

Starts what is driven (loadtests/load/stage.py), then locust with loadtests/locustfile.py and the plan's stages, and
keeps locust's report as HTML. The only line of stdout is one JSON object; the exit code is 1 where a threshold was
missed, a request or its lease was left behind, or, in a soak, a gateway's memory or its open connections grew. Lengths
are a quarter of the traces', so that two cores carry client, gateways and engines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.load.plans import PLANS
from loadtests.load.stage import Stage
from tests.processes import ROOT

LOCUST = ROOT / ".flywheel/envs/loadtest/bin/locust"
REPORTS = ROOT / ".flywheel/loadtests"
SCALE = "0.25"
WARM_SHARE = 0.25
"""First part of a soak, in which caches and pools fill."""
SAMPLE_S, SETTLE_S = 5.0, 10.0
GROWTH_MIB, GROWTH_DESCRIPTORS = 20.0, 16
"""What a gateway may grow by once it is warm: connections come and go with the requests in flight."""


def drive(stage: Stage, plan: str, seconds: float | None, processes: int) -> dict[str, Any]:
    REPORTS.mkdir(parents=True, exist_ok=True)
    report, summary = REPORTS / f"{plan}.html", REPORTS / f"{plan}.json"
    summary.unlink(missing_ok=True)
    settings = {
        "LOAD_PLAN": plan,
        "LOAD_SCALE": SCALE,
        "LOAD_SUMMARY": str(summary),
        "FLYWHEEL_BASE_URL": stage.base_urls,
        "FLYWHEEL_API_KEY": stage.key,
    }
    if seconds is not None:
        settings["LOAD_SECONDS"] = str(seconds)
    command = [str(LOCUST), "-f", "loadtests/locustfile.py", "--headless", "--only-summary", "--html", str(report)]
    if processes > 1:
        command += ["--processes", str(processes)]
    began = time.monotonic()
    locust = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=sys.stderr)
    memory: list[list[float]] = []
    descriptors: list[list[int]] = []
    while locust.poll() is None:
        memory.append(stage.memory_mib())
        descriptors.append(stage.descriptors())
        try:
            locust.wait(SAMPLE_S)
        except subprocess.TimeoutExpired:
            continue
    figures: dict[str, Any] = {"plan": plan, "seconds": round(time.monotonic() - began)}
    figures |= json.loads(summary.read_text())
    figures["report"] = str(report.relative_to(ROOT))
    warm = int(WARM_SHARE * len(memory))
    figures["memory_mib"] = [_rounded(memory[at]) for at in _quarters(memory)]
    figures["descriptors"] = [descriptors[at] for at in _quarters(memory)]
    figures["left_behind"] = stage.left_behind(within_s=SETTLE_S)
    if any(figures["left_behind"].values()):
        figures["missed"].append("requests were left behind")
    if plan == "soak":
        if (growth := _growth(memory[warm:])) > GROWTH_MIB:
            figures["missed"].append(f"a gateway's memory grew by {growth:.0f} MiB")
        if (growth := _growth(descriptors[warm:])) > GROWTH_DESCRIPTORS:
            figures["missed"].append(f"a gateway has {growth:.0f} more connections open")
    return figures


def _quarters(samples: Sequence[object]) -> list[int]:
    """Where each quarter of the samples begins, and the last one."""
    return [round(quarter / 4 * (len(samples) - 1)) for quarter in range(5)]


def _growth(samples: Sequence[Sequence[float]]) -> float:
    """Of the gateway that grew most, from the first quarter of the samples to the last, in their medians."""
    quarter = max(1, len(samples) // 4)
    first, last = (list(zip(*part, strict=True)) for part in (samples[:quarter], samples[-quarter:]))
    return max(median(end) - median(start) for start, end in zip(first, last, strict=True))


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 1) for value in values]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("plan", choices=sorted(PLANS))
    parser.add_argument("--seconds", type=float, help="the plan's stages in so many seconds together")
    parser.add_argument("--processes", type=int, default=1, help="locust's workers, which send the requests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stage = Stage(Path(folder), stack)
        stage.wait_until_ready()
        figures = drive(stage, arguments.plan, arguments.seconds, arguments.processes)
    print(json.dumps(figures), flush=True)
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
