"""What the supervisor says of itself, in a file that commands read."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from cli.errors import CliError
from cli.home import Home, write_private

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]
StepStatus = Literal["waiting", "starting", "ready", "restarting", "failed", "stopping", "stopped"]


class Failure(BaseModel):
    """Which step failed, why, and what to do."""

    step: str
    why: str
    advice: str
    log: str | None = None


class Step(BaseModel):
    """One thing that the supervisor does or runs."""

    name: str
    status: StepStatus = "waiting"
    since: float = Field(default_factory=time.time, description="Unix seconds of the last start.")
    seconds: float | None = Field(None, description="How long it took to become ready.")
    pid: int | None = None
    restarts: int = 0
    failure: Failure | None = None


class SupervisorState(BaseModel):
    pid: int
    phase: Phase = "starting"
    started_at: float = Field(default_factory=time.time)
    steps: dict[str, Step] = Field(default_factory=dict)
    failure: Failure | None = None

    @classmethod
    def read(cls, home: Home) -> "SupervisorState | None":
        try:
            return cls.model_validate_json(home.state_file.read_text())
        except (FileNotFoundError, ValidationError):
            return None


class StateFile:
    """The state in memory, and its copy on disk after every change."""

    def __init__(self, home: Home, pid: int) -> None:
        self._home = home
        self.state = SupervisorState(pid=pid)

    def step(self, name: str) -> Step:
        return self.state.steps.setdefault(name, Step(name=name))

    def set(self, name: str, **changes: object) -> None:
        step = self.step(name)
        self.state.steps[name] = step.model_copy(update=changes)
        self.save()

    def set_phase(self, phase: Phase, failure: Failure | None = None) -> None:
        self.state.phase = phase
        self.state.failure = failure or self.state.failure
        self.save()

    def save(self) -> None:
        write_private(self._home.state_file, self.state.model_dump_json(indent=2))


@contextmanager
def held_by_this_supervisor(home: Home) -> Iterator[None]:
    """Holds the home's lock, which ends with the process however it ends. Raises CliError when another holds it."""
    home.folder.mkdir(parents=True, exist_ok=True)
    with home.lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(f"Another supervisor already runs in {home.folder}.") from None
        yield


def supervisor_lives(home: Home) -> bool:
    if not home.lock_file.exists():
        return False
    with home.lock_file.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
