"""A training's side of loadtests/finetune/turns.py: waits for its turn before each step. Imports torch."""

import time
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import DEFAULT_CALLBACKS


def play(name: str, address: str) -> None:
    """The next Trainer of this process plays, before all other callbacks."""
    DEFAULT_CALLBACKS.append(Player(name, address))


class Player(TrainerCallback):
    """A step lasts until the next one could begin, so that what is told and saved in between belongs to it."""

    def __init__(self, name: str, address: str) -> None:
        self._name, self._address = name, address
        self._began_at: float | None = None
        self._cpu_before_s = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._referee = Client(self._address, "AF_UNIX")
        self._referee.send({"name": self._name, "read_bytes": read_bytes()})

    def on_step_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._tell(state, ended=False)
        self._referee.recv()
        self._began_at, self._cpu_before_s = time.perf_counter(), time.process_time()

    def on_train_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._tell(state, ended=True)
        self._referee.recv()
        self._referee.close()

    def _tell(self, state: TrainerState, *, ended: bool) -> None:
        if self._began_at is None:
            return
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        self._referee.send(
            {
                "seconds": time.perf_counter() - self._began_at,
                "cpu_s": time.process_time() - self._cpu_before_s,
                "loss": float(losses[-1]),
                "ended": ended,
            }
        )


def read_bytes() -> int:
    """What this process made the kernel read from a disk, since it started (proc(5))."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes:")).split()[1])
