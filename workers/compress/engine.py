"""An engine of the study's own: vLLM for a folder of weights, as an agent would start it, but without a lease."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.compress.footprint import Footprint, footprint_of
from workers.run import JobRun

HOST = "127.0.0.1"
NAME = "measured"
HEALTH_POLL_S = 0.25
ANSWER_TIMEOUT_S = 600.0
STOP_S = 5.0
ROOT = Path(__file__).parents[2]
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)\b: ")
PREFIX = re.compile(r"^(\([^)]*\) )?(ERROR \S+ \S+ \[[^\]]*\] ?)?")
MOST_REASONS, LONGEST_REASON = 3, 500
EMPTY_REASONS = ("Engine core initialization failed", "See stack trace", "WorkerProc initialization failed")


class NotServed(Exception):
    """vLLM does not serve these weights here; the message is its own last word."""


@dataclass(frozen=True, slots=True)
class EngineProgram:
    """How engines are started. `base` is the model of the catalogue that says how; `start_timeout_s` bounds a start."""

    python: Path
    base: str
    context_length: int
    start_timeout_s: float


class OwnEngine:
    """Asked directly, by no more than the threads that measure it. Synchronous and safe to share between threads."""

    def __init__(self, pid: int, port: int, start_s: float) -> None:
        self.start_s = start_s
        self._pid, self._port, self._model = pid, port, NAME

    def footprint(self) -> Footprint:
        return footprint_of(self._pid)

    def load_adapter(self, folder: Path) -> None:
        """From then on the adapter is asked. Raises OSError, http.client.HTTPException."""
        name = f"{NAME}-adapter"
        with self._open("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}) as answer:
            answer.read()
        self._model = name

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError, http.client.HTTPException."""
        with self._open(path, body) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer as they come. Raises OSError, http.client.HTTPException."""
        with self._open(path, {**body, "stream": True}) as answer:
            for line in answer:
                data = line.removeprefix(b"data: ").strip()
                if data and data != b"[DONE]":
                    yield json.loads(data)

    def _open(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://{HOST}:{self._port}{path}",
            json.dumps({"model": self._model, **body}).encode(),
            {"content-type": "application/json"},
        )
        return _direct().open(request, timeout=ANSWER_TIMEOUT_S)


@contextmanager
def own_engine(program: EngineProgram, weights: Path, run: JobRun, *, log: Path) -> Iterator[OwnEngine]:
    """Waits until it is healthy; ends it with the block, or with this process however that ends.

    Raises NotServed, and what `run.check` raises.
    """
    port = _free_port()
    command = [str(program.python), "-m", "inference.bare", program.base, "--weights", str(weights)]
    command += ["--port", str(port), "--context-length", str(program.context_length)]
    began_at = time.monotonic()
    with log.open("ab") as words:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=words, stderr=words, cwd=ROOT)
    try:
        _wait_until_healthy(process, port, program.start_timeout_s, run, log)
        yield OwnEngine(process.pid, port, time.monotonic() - began_at)
    finally:
        _end(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, timeout_s: float, run: JobRun, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not _is_healthy(port):
        run.check()
        if process.poll() is not None:
            raise NotServed(reason_in(log))
        if time.monotonic() > deadline:
            raise NotServed(f"It was not up after {timeout_s:.0f} s.")
        time.sleep(HEALTH_POLL_S)


def reason_in(log: Path) -> str:
    """Of vLLM's log: the first error that was raised, as those that follow only tell that there was one."""
    lines = log.read_text(errors="replace").splitlines()
    words = [_without_prefix(line) for line in lines if line.strip()]
    raised = [word for word in words if RAISED.match(word)]
    reasons = [word for word in raised if not any(empty in word for empty in EMPTY_REASONS)]
    reason = (reasons or raised or words[-1:] or ["vLLM ended without a word."])[0]
    if reason.endswith(":"):  # what it was is in the next lines
        begins = words.index(reason) + 1
        reason = " ".join([reason, *words[begins : begins + MOST_REASONS]])
    return reason[:LONGEST_REASON]


def _without_prefix(line: str) -> str:
    """Lines of vLLM's processes begin with their name, a level, a time and a place in the code."""
    return PREFIX.sub("", line).strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    """All of its group, by the guard that watches its standard input (inference/guard.py) or by ourselves."""
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _is_healthy(port: int) -> bool:
    try:
        with _direct().open(f"http://{HOST}:{port}/health", timeout=2) as answer:
            return bool(answer.status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
