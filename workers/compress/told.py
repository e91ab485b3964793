"""How a program that makes a variant is told what to do and tells how far it is: JSON, a line a piece of news.

Runs in the worker's environment and in llmcompressor's, so it imports nothing but the standard library.
"""

import ctypes
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

PR_SET_PDEATHSIG = 1


class CannotMake(Exception):
    """The variant cannot be made of this model; the message says why, for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class Task:
    """`source` and `output` are folders in Hugging Face's layout; `samples` is a file of token sequences, a JSON list a
    line, to calibrate with or to learn from. `options` are the technique's own."""

    source: Path
    output: Path
    samples: Path | None
    options: dict[str, Any]
    seed: int
    threads: int | None
    teacher: Path | None = None

    @classmethod
    def read(cls, file: Path) -> "Task":
        told = json.loads(file.read_text())
        paths = {name: None if told[name] is None else Path(told[name]) for name in PATHS}
        return cls(**{**told, **paths})

    def write(self, file: Path) -> None:
        told = {name: getattr(self, name) for name in self.__slots__}
        file.write_text(json.dumps(told | {name: told[name] and str(told[name]) for name in PATHS}))

    def sequences(self) -> list[list[int]]:
        """Of token ids. Raises CannotMake where there are none."""
        lines = [] if self.samples is None else self.samples.read_text().splitlines()
        if not lines:
            raise CannotMake("It needs samples of text, and there are none.")
        return [json.loads(line) for line in lines]


PATHS = ("source", "output", "samples", "teacher")


class Teller:
    """Lines on what was standard output; whatever a library prints there goes to standard error."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def step(self, step: int, total: int, **figures: float) -> None:
        self._tell({"step": step, "total_steps": total, **figures})

    def message(self, text: str) -> None:
        self._tell({"message": text})

    def failed(self, reason: str) -> None:
        self._tell({"failed": reason})

    def made(self, **facts: float) -> None:
        self._tell({"made": facts})

    def _tell(self, news: dict[str, Any]) -> None:
        print(json.dumps(news), file=self._out, flush=True)


def begin() -> tuple[Task, Teller]:
    """Reads the task that the first argument names. The kernel ends this process with the one that started it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # prctl(2)
    teller = Teller(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    return Task.read(Path(sys.argv[1])), teller
