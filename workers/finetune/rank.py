"""`python -m workers.finetune.rank TASK [SOCKET]`: one of several processes that train together. torchrun starts it.

The socket is that of the worker, for the first process.
"""

import dataclasses
import importlib
import json
import os
import pickle
import socket
import sys
from pathlib import Path
from typing import Any

from contracts.jobs import EventLevel
from workers.finetune.launch import choose_environment
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.tied import die_with_parent
from workers.run import JobFailed


class ReportsByLine:
    """A Reporter of the first process. A line that is cut means that nobody wants the result any more."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._lines = self._socket.makefile("rw")
        self.must_rest = False

    def check(self, *, may_save: bool = False) -> None:
        """The process that has the job checks by itself and ends this one; it waits only for what may be saved."""
        if not may_save:
            self.call("check", may_save=False)

    def message(self, text: str, *, level: EventLevel = "info") -> None:
        self.call("message", text=text, level=level)

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None:
        self.call("metrics", text=text, data=data, estimated_finish_at=estimated_finish_at)

    def save_checkpoint(self, folder: Path, *, step: int, metrics: dict[str, float]) -> None:
        self.call("save_checkpoint", folder=str(folder), step=step, metrics=metrics)

    def latest_checkpoint(self, target: Path) -> int | None:
        step: int | None = self.call("latest_checkpoint", target=str(target))
        return step

    def tell(self, name: str, **arguments: Any) -> None:
        """What ends the conversation."""
        self._lines.write(json.dumps({"name": name, "arguments": arguments}) + "\n")
        self._lines.flush()

    def call(self, name: str, **arguments: Any) -> Any:
        self.tell(name, **arguments)
        line = self._lines.readline()
        if not line:
            sys.exit("the process that has the job is gone")
        answer = json.loads(line)
        self.must_rest = answer["must_rest"]
        return answer["value"]


class Silent:
    """The other processes' Reporter: the first one tells and decides for all."""

    must_rest = False

    def check(self, *, may_save: bool = False) -> None: ...

    def message(self, text: str, *, level: EventLevel = "info") -> None: ...

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None: ...

    def save_checkpoint(self, folder: Path, *, step: int, metrics: dict[str, float]) -> None: ...

    def latest_checkpoint(self, target: Path) -> int | None: ...


def main(task_file: str, address: str = "") -> None:
    die_with_parent()
    module, task = pickle.loads(Path(task_file).read_bytes())  # noqa: S301 our parent wrote it a moment ago
    choose_environment(task.weights)
    if os.environ["RANK"] == "0":
        _first(module, task, ReportsByLine(address))
    else:
        own_output = task.scratch / f"output-{os.environ['RANK']}"  # a copy of what the first one writes
        _train(module, dataclasses.replace(task, output=own_output), Silent())


def _first(module: str, task: TrainingTask, line: ReportsByLine) -> None:
    try:
        trained = _train(module, task, line)
    except JobFailed as failure:
        line.tell("failed", code=failure.code, message=failure.message, param=failure.param)
        sys.exit(1)
    line.tell("trained", **dataclasses.asdict(trained))


def _train(module: str, task: TrainingTask, run: Reporter) -> Trained:
    trained: Trained = importlib.import_module(module).train(task, run)
    return trained


if __name__ == "__main__":
    main(*sys.argv[1:])
