"""`python -m loadtests.finetune`: what a job costs beside the bare loop. `make bench-finetune` installs and runs it.

step: seconds per optimiser step of a LoRA job of ours (the real runner, with its checks, events, heartbeat and
checkpoints) and of trl and peft alone, for the same model, data, seed and steps. Both trainings live at once and make
their steps by turns; the ratio is the median over neighbouring steps. Also in CPU seconds, which other work on the
machine hardly moves.
all steps: their sums.
base read: what two jobs on one base read from the disk until their first step, one after the other, when no page of the
base was in memory: the first one reads it, the second finds it in the page cache.
served: from a job's end to the first token of what it made (`make bench-adapters` measures it too).

Progress goes to stderr. The last line of stdout is one JSON object: figure → {ours, peer, ratio}, and `conditions`.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from contracts.jobs import Job
from loadtests.adapters import PLACES, measure_new
from loadtests.finetune.turns import Played, Referee
from loadtests.peers.processes import cores_busy_with_others
from tests.adapter_stage import ENGINE_PYTHON, MODEL, AdapterStage
from tests.processes import ROOT
from tests.workers.finetune.bench import Bench

DATA = ROOT / "examples/ships_computer.jsonl"
SEED, BATCH = 1, 4
WARM_UP = 2
"""Steps that are left out: the first ones fill caches and allocate."""
FEWEST_ROWS = 10
same_loss = partial(math.isclose, rel_tol=0.01)
"""At every step: otherwise the two trainings do not do the same work."""
LIMIT_S = 900
SAME_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""What workers set by themselves (workers/finetune/launch.py), for the bare loop too: without it a training beside
other work takes several times as long, and what is measured here is the rest."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def own_copy_of_base(folder: Path) -> Path:
    """Of which no other process keeps pages in memory."""
    command = [ENGINE_PYTHON, "-m", "inference.weights", MODEL]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return shutil.copytree(Path(told.stdout.split()[-2]), folder / "base")


def forget_pages(weights: Path) -> None:
    for path in weights.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def end_the_play(done: Future[str], address: str) -> None:
    """A training that broke down before it was there leaves its referee waiting for it."""
    if done.exception() is not None:
        say(str(done.exception()))
        with suppress(OSError):
            Client(address, "AF_UNIX").close()


class Trainings:
    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        self._folder, self._threads = folder, threads
        self.weights = own_copy_of_base(folder)
        self.bench = Bench(folder)
        self.bench.add_base(MODEL, self.weights, "generate", context_length=2048)

    def play(self, *names: str, rows: int | None = None, batch: int = BATCH) -> dict[str, Played]:
        """`rows` of the data; all if None."""
        content = b"".join(DATA.read_bytes().splitlines(keepends=True)[:rows])
        address = tempfile.mktemp(prefix="turns-", dir=self._folder)
        with Listener(address, "AF_UNIX") as listener:
            start = {"ours": self._ours, "bare": self._bare}
            running = [start[name](content, address, batch) for name in names]
            for one in running:
                one.add_done_callback(lambda done: end_the_play(done, address))
            played = self._threads.submit(Referee(listener, names).run).result(LIMIT_S)
        for one in running:
            one.result(LIMIT_S)
        return played

    def _ours(self, content: bytes, address: str, batch: int) -> Future[str]:
        file = self.bench.add_file(content, DATA.name)
        chosen = {"n_epochs": 1, "batch_size": batch}
        job: Job = self.bench.create_job("supervised", MODEL, seed=SEED, training_file=file, hyperparameters=chosen)
        return self._python("loadtests.finetune.ours", str(self.weights), address, job.id)

    def _bare(self, content: bytes, address: str, batch: int) -> Future[str]:
        file = Path(f"{address}.jsonl")
        file.write_bytes(content)
        return self._python("loadtests.finetune.bare", str(self.weights), address, str(file), str(SEED), str(batch))

    def _python(self, module: str, *arguments: str) -> Future[str]:
        return self._threads.submit(
            self.bench.python, "-m", module, *arguments, timeout_s=LIMIT_S, settings=SAME_ENVIRONMENT
        )


def measure_steps(trainings: Trainings) -> dict[str, Any]:
    played = trainings.play("ours", "bare")
    ours, bare = played["ours"], played["bare"]
    for name, one in played.items():
        seconds, cpu_s = (", ".join(f"{value:.2f}" for value in values) for values in (one.seconds, one.cpu_s))
        say(f"{name}: {seconds} s; of the CPU {cpu_s} s; losses {one.losses[:2]}…")
    if len(ours.losses) != len(bare.losses) or not all(map(same_loss, ours.losses, bare.losses)):
        raise RuntimeError("the two trainings did not do the same work")
    return {
        "step, s": compared_medians(ours.seconds[WARM_UP:], bare.seconds[WARM_UP:]),
        "step, CPU s": compared_medians(ours.cpu_s[WARM_UP:], bare.cpu_s[WARM_UP:]),
        "all steps, s": compared(sum(ours.seconds), sum(bare.seconds), sum(ours.seconds) / sum(bare.seconds)),
    }


def measure_base_read(trainings: Trainings) -> dict[str, Any]:
    whole = sum(path.stat().st_size for path in trainings.weights.rglob("*.safetensors"))
    forget_pages(trainings.weights)
    first, second = (trainings.play("ours", rows=FEWEST_ROWS, batch=FEWEST_ROWS)["ours"].read_bytes for _ in range(2))
    if first < whole:
        say(f"the first job read {first} bytes of a base of {whole}: something else keeps it in memory")
    figure = compared(second / 1e6, first / 1e6, second / first if first else None, peer="first job")
    return {"base read by the second job, MB": figure | {"base": round(whole / 1e6)}}


def measure_served(folder: Path, stack: ExitStack) -> dict[str, Any]:
    took, _ = measure_new(AdapterStage(folder, stack, places=PLACES))
    return {"job end to first token, s": {"ours": took["p50_s"], "peer": None, "ratio": None, **took}}


def compared_medians(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """The ratio is the median over neighbours, which a slow moment of the machine does not move."""
    ratio = statistics.median(mine / neighbour for mine, neighbour in zip(ours, theirs, strict=True))
    return compared(statistics.median(ours), statistics.median(theirs), ratio) | {"steps": len(ours)}


def compared(ours: float, theirs: float, ratio: float | None, *, peer: str = "trl and peft") -> dict[str, Any]:
    rounded = None if ratio is None else round(ratio, 3)
    return {"ours": round(ours, 3), peer: round(theirs, 3), "ratio": {peer: rounded}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-finetune", description="A job beside the bare loop.")
    parser.add_argument("--quick", action="store_true", help="without an engine; under 4 minutes")
    quick = parser.parse_args().quick
    conditions = {"cores": os.cpu_count(), "cores_busy_with_others": cores_busy_with_others(), "batch": BATCH}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-finetune-")))
        threads = stack.enter_context(ThreadPoolExecutor())
        trainings = Trainings(folder, threads)
        figures = measure_steps(trainings)
        say(json.dumps(figures))
        figures |= measure_base_read(trainings)
        if quick:
            figures["job end to first token, s"] = {"skipped": "it needs an engine: run without QUICK=1"}
        else:
            figures |= measure_served(folder / "served", stack)
    print(json.dumps(figures | {"conditions": conditions}))


if __name__ == "__main__":
    main()
