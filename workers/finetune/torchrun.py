"""A training in several processes: torchrun starts them, and they report to the one that has the job.

On other machines workers/finetune/follower.py starts them.

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
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.finetune.task import Trained, TrainingTask
from workers.run import JobFailed, JobRun, Machines

POLL_S = 0.5
END_S = 5.0


def train_in_processes(module: str, task: TrainingTask, run: JobRun, count: int) -> Trained:
    """Raises JobFailed, and what `run.check` raises, once no process is left."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    machines = run.resources.machines
    task_file, log_file = task.scratch / "task", task.scratch / "log"
    if machines is not None:
        task_file = machines.task_file
        task_file.parent.mkdir(parents=True, exist_ok=True)
    task_file.write_bytes(pickle.dumps((module, task)))
    where = "" if machines is None else f" on each of {machines.count} machines"
    run.message(f"Training in {count} {'process' if count == 1 else 'processes'}{where}.")
    with (
        # Not in the scratch folder, whose path may be longer than a socket's may be (unix(7): 107 bytes).
        tempfile.TemporaryDirectory(prefix="flywheel-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
        log_file.open("wb") as log,
    ):
        address = Path(folder) / "socket"
        listener.bind(str(address))
        listener.listen()
        listener.settimeout(POLL_S)
        command = torchrun_command(count, task_file, address, machines)
        with _processes(command, torchrun_environment(task.threads, count, machines), log) as torchrun:
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
def _processes(command: list[str], environment: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    torchrun = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        yield torchrun
        torchrun.wait(END_S)
    finally:
        if torchrun.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(torchrun.pid, signal.SIGKILL)
            torchrun.wait()


def torchrun_environment(threads: int | None, count: int, machines: Machines | None) -> dict[str, str]:
    """Cores are shared out. What processes of one machine keep among them goes over the loopback device."""
    own = {"OMP_NUM_THREADS": str(max(1, (threads or os.cpu_count() or 1) // count))}
    return {**os.environ, **own} | ({"GLOO_SOCKET_IFNAME": "lo"} if machines is None else {})


def torchrun_command(
    count: int, task_file: Path, address: Path | None, machines: Machines | None, *, rank: int = 0
) -> list[str]:
    """`count` processes on this machine, which is the one with `rank`. Only the first one has an `address`."""
    if machines is None:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", secrets.token_hex(8)]
        meeting += ["--nnodes", "1"]
    else:
        host, _, port = machines.meeting_point.rpartition(":")
        meeting = ["--master-addr", host, "--master-port", port]
        meeting += ["--nnodes", str(machines.count), "--node-rank", str(rank)]
    worker = ["-m", "workers.finetune.rank", str(task_file), *([] if address is None else [str(address)])]
    return [sys.executable, "-m", "workers.finetune.tied", *meeting, "--nproc-per-node", str(count), *worker]
