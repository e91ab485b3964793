"""Starting and stopping the processes that tests talk to."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOP_S = 10.0


class Process:
    """A child process with its output in a file. Stopping it asks first (SIGTERM) and insists later."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command, cwd=ROOT, env=inherited | dict(environment or {}), stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Raises AssertionError with the end of the log when the process ends or is too slow."""
        began = time.monotonic()
        while (waited_s := time.monotonic() - began) < timeout_s and self.exit_code is None:
            if ready():
                return
            time.sleep(0.02 + waited_s / 50)  # asking takes a core from what it waits for
        self.stop()
        raise AssertionError(f"{self._child.args} did not become ready:\n{self.log.read_text()[-4000:]}")

    def wait(self, *, timeout_s: float) -> None:
        """Raises AssertionError with the end of the log when the process does not end well, or not in time."""
        try:
            exit_code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            exit_code = self.kill()
        assert exit_code == 0, f"{self._child.args} ended with {exit_code}:\n{self.log.read_text()[-4000:]}"

    def terminate(self) -> None:
        """Asks it to stop, and does not wait."""
        self._child.terminate()

    def stop(self) -> int:
        """The exit code."""
        self.terminate()
        try:
            return self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self._child.kill()
        return self._child.wait()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
