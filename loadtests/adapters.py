"""`python -m loadtests.adapters`: how soon an adapter answers, and what several of them cost in memory.

A gateway, an agent and vLLM on this machine's CPU, adapters of rank 8 (made here, untrained) and places for 8; with
`--simulated` the fake engine in vLLM's place, which leaves the time that Flywheel itself takes, and no memory.

new: from the moment in which a job's card is committed and announced, as a worker does it, to the first token that the
client of a streaming request gets which is sent then.
evicted: the same from the sending of the request, for an adapter that had to leave the engine before.
loaded: the same for an adapter that the engine has.
memory: of the engine's processes with 1 adapter loaded and with 8, by /proc/PID/smaps_rollup; and of two processes that
load the same base weights as training workers do, as they are stored (bfloat16) and converted (float32). PSS counts a
page that n processes share as a 1/n.

Progress goes to stderr; the only line of stdout is one JSON object.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from contracts.models import ModelCard
from tests.adapter_stage import MODEL, AdapterStage
from tests.processes import ROOT

PLACES = 8
ADAPTERS = 10
WORKER_PYTHON = ROOT / ".flywheel/envs/worker/bin/python"
LOAD_WEIGHTS = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
for weights in model.parameters():
    weights.sum()  # every page is touched
print("loaded", flush=True)
sys.stdin.read()
"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def memory_of(pids: Sequence[int]) -> dict[str, float]:
    """MiB of processes: resident, and with shared pages counted in proportion."""
    totals = {"rss": 0.0, "pss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if (found := re.match(r"(Rss|Pss):\s+(\d+) kB", line)) is not None:
                totals[found[1].lower()] += int(found[2]) / 1024
    return {name: round(value, 1) for name, value in totals.items()}


def measure(what: str, rounds: int, once: Callable[[int], float]) -> dict[str, float]:
    took = [once(number) for number in range(rounds)]
    say(f"{what}: {', '.join(f'{value:.2f}' for value in took)} s")
    return {"p50_s": round(statistics.median(took), 3), "max_s": round(max(took), 3), "rounds": rounds}


def measure_new(stage: AdapterStage) -> tuple[dict[str, float], list[ModelCard]]:
    """The cards are those that are registered afterwards."""
    cards = [stage.make_adapter(seed) for seed in range(ADAPTERS)]

    def new(number: int) -> float:
        stage.register(cards[number])
        return stage.first_token_s(cards[number].name)

    return measure("new", ADAPTERS, new), cards


def measure_times(stage: AdapterStage) -> dict[str, dict[str, float]]:
    new, cards = measure_new(stage)

    def evicted(_number: int) -> float:
        time.sleep(2)  # past the residence of those that must leave
        absent = next(card.name for card in cards if card.name not in stage.loaded())
        return stage.first_token_s(absent)

    def loaded(number: int) -> float:
        return stage.first_token_s(stage.loaded()[number % PLACES])

    return {
        "new": new,
        "evicted": measure("evicted", ADAPTERS, evicted),
        "loaded": measure("loaded", ADAPTERS, loaded),
    }


def measure_engine_memory(stage: AdapterStage) -> dict[str, object]:
    found: dict[str, object] = {}
    for seed in range(PLACES):
        card = stage.make_adapter(100 + seed)
        stage.register(card)
        stage.first_token_s(card.name)
        if seed + 1 in (1, PLACES):
            family = psutil.Process(stage.agent.pid).children(recursive=True)
            found[f"{seed + 1}_adapters_mib"] = memory_of([process.pid for process in family])
    say(f"engine: {found}")
    return found


def measure_shared_weights(stage: AdapterStage) -> dict[str, object]:
    base = stage.models.get(MODEL)
    assert base is not None
    found: dict[str, object] = {}
    for dtype in ("bfloat16", "float32"):
        with ExitStack() as stack:
            workers = []
            for number in (1, 2):
                command = [str(WORKER_PYTHON), "-c", LOAD_WEIGHTS, base.weights, dtype]
                worker = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                stack.callback(worker.wait)
                stack.callback(worker.kill)
                assert worker.stdout is not None
                worker.stdout.readline()
                workers.append(worker.pid)
                found[f"{dtype}_{number}_processes_mib"] = memory_of(workers)
    say(f"weights: {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.adapters", description=__doc__)
    parser.add_argument("--simulated", action="store_true")
    simulated = parser.parse_args().simulated
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="flywheel-adapters-") as folder, ExitStack() as stack:
        stage = AdapterStage(Path(folder), stack, places=PLACES, simulated=simulated)
        if not simulated:
            result["base_weights_memory"] = measure_shared_weights(stage)
            result["engine_memory"] = measure_engine_memory(stage)
        result["first_token"] = measure_times(stage)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
