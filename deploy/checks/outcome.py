"""What a check tells, and how one runs a program that checks."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.checks.render import REPOSITORY


@dataclass(frozen=True, slots=True)
class Outcome:
    """`left_out` says why nothing could be checked, if so."""

    checked: str
    faults: tuple[str, ...] = ()
    left_out: str | None = None

    @property
    def passed(self) -> bool:
        return not self.faults


def run(command: list[str | Path], *, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def lines(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    """What a program that failed had to say; nothing if it did not fail."""
    if done.returncode == 0:
        return ()
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return tuple(told) or (f"{done.args[0]} ended with {done.returncode}",)
