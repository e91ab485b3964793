"""A training in several processes on this machine: torchrun starts them, and they report to the one that has the job.

The first of them is connected to the job's process by a socket: a line of JSON for each call, and one back when it is
done. What stops the job ends them all; if the job's process dies, so do they.
"""

import contextlib
import json
import os
import pickle
import secrets
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.finetune.task import Trained, TrainingTask
from workers.run import JobFailed, JobRun

POLL_S = 0.5
END_S = 5.0


def train_in_processes(module: str, task: TrainingTask, run: JobRun, count: int) -> Trained:
    """Raises JobFailed, and what `run.check` raises, once no process is left."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    address, task_file, log_file = (task.scratch / name for name in ("socket", "task", "log"))
    task_file.write_bytes(pickle.dumps((module, task)))
    run.message(f"Training in {count} processes.")
    with socket.socket(socket.AF_UNIX) as listener, log_file.open("wb") as log:
        listener.bind(str(address))
        listener.listen()
        listener.settimeout(POLL_S)
        with _processes(_command(count, task_file, address), task, count, log) as torchrun:
            trained = _Line(listener, torchrun, run).follow()
    if trained is None:
        sys.stderr.write(log_file.read_text(errors="replace")[-8000:])
        raise RuntimeError(f"torchrun ended with {torchrun.returncode} and no result")
    return trained


class _Line:
    """Does what the first process asks for, until it hands in its result."""

    def __init__(self, listener: socket.socket, torchrun: subprocess.Popen[bytes], run: JobRun) -> None:
        self._listener, self._torchrun, self._run = listener, torchrun, run

    def follow(self) -> Trained | None:
        """None if the processes end without a result."""
        connection = self._accept()
        if connection is None:
            return None
        with connection, connection.makefile("rw") as lines:
            connection.settimeout(None)
            while self._wait_for_line(connection):
                line = lines.readline()
                if not line:
                    return None
                call = json.loads(line)
                match call["name"]:
                    case "trained":
                        return Trained(**call["arguments"])
                    case "failed":
                        raise JobFailed(**call["arguments"])
                answer = {"value": self._do(call["name"], call["arguments"]), "must_rest": self._run.must_rest}
                lines.write(json.dumps(answer) + "\n")
                lines.flush()
        return None

    def _do(self, name: str, arguments: dict[str, Any]) -> Any:
        match name:
            case "check":
                return self._run.check(**arguments)
            case "message":
                return self._run.message(**arguments)
            case "metrics":
                return self._run.metrics(**arguments)
            case "save_checkpoint":
                return self._run.save_checkpoint(Path(arguments.pop("folder")), **arguments)
            case "latest_checkpoint":
                return self._run.latest_checkpoint(Path(arguments["target"]))
        raise RuntimeError(f"unknown call {name}")

    def _accept(self) -> socket.socket | None:
        while self._torchrun.poll() is None:
            self._run.check()
            with contextlib.suppress(TimeoutError):
                return self._listener.accept()[0]
        return None

    def _wait_for_line(self, connection: socket.socket) -> bool:
        """The buffer of `lines` is empty here: the other side sends nothing before it is answered."""
        while not select.select([connection], [], [], POLL_S)[0]:
            self._run.check(may_save=True)
            if self._torchrun.poll() is not None:
                return False
        self._run.check(may_save=True)
        return True


@contextlib.contextmanager
def _processes(command: list[str], task: TrainingTask, count: int, log: Any) -> Iterator[subprocess.Popen[bytes]]:
    threads = max(1, (task.threads or os.cpu_count() or 1) // count)
    # What the library keeps between processes on one machine goes over the loopback device.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    torchrun = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        yield torchrun
        torchrun.wait(END_S)
    finally:
        if torchrun.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(torchrun.pid, signal.SIGKILL)
            torchrun.wait()


def _command(count: int, task_file: Path, address: Path) -> list[str]:
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", secrets.token_hex(8)]
    processes = ["--nnodes", "1", "--nproc-per-node", str(count)]
    worker = ["-m", "workers.finetune.rank", str(task_file), str(address)]
    return [sys.executable, "-m", "workers.finetune.tied", *processes, *rendezvous, *worker]
