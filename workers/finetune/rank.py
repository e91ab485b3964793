"""`python -m workers.finetune.rank TASK SOCKET`: one of several processes that train together. torchrun starts it."""

import ctypes
import dataclasses
import importlib
import json
import os
import pickle
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from workers.finetune.launch import choose_environment
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.run import JobFailed

PR_SET_PDEATHSIG = 1


class ReportsByLine:
    """A Reporter of the first process. A line that is cut means that nobody wants the result any more."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._lines = self._socket.makefile("rw")

    def check(self) -> None:
        """The process that has the job checks by itself, and ends this one."""

    def message(self, text: str) -> None:
        self.call("message", text=text)

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None:
        self.call("metrics", text=text, data=data, estimated_finish_at=estimated_finish_at)

    def call(self, name: str, **arguments: Any) -> None:
        self._lines.write(json.dumps({"name": name, "arguments": arguments}) + "\n")
        self._lines.flush()
        if not self._lines.readline() and name not in ("trained", "failed"):
            sys.exit("the process that has the job is gone")


class Silent:
    """The other processes' Reporter: the first one tells for all."""

    def check(self) -> None: ...

    def message(self, text: str) -> None: ...

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None: ...


def main(task_file: str, address: str) -> None:
    # torchrun does not outlive the job's process, nor this one torchrun (prctl(2)).
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    module, task = pickle.loads(Path(task_file).read_bytes())  # noqa: S301 our parent wrote it a moment ago
    choose_environment(task)
    if os.environ["RANK"] == "0":
        _first(module, task, ReportsByLine(address))
    else:
        rank = os.environ["RANK"]
        own = dataclasses.replace(task, output=task.scratch / f"output-{rank}", scratch=task.scratch / f"rank-{rank}")
        _train(module, own, Silent())


def _first(module: str, task: TrainingTask, line: ReportsByLine) -> None:
    try:
        trained = _train(module, task, line)
    except JobFailed as failure:
        line.call("failed", code=failure.code, message=failure.message, param=failure.param)
        sys.exit(1)
    line.call("trained", **dataclasses.asdict(trained))


def _train(module: str, task: TrainingTask, run: Reporter) -> Trained:
    trained: Trained = importlib.import_module(module).train(task, run)
    return trained


if __name__ == "__main__":
    main(*sys.argv[1:])
