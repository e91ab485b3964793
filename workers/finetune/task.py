"""What a training is given and what it gives back: plain data, which also crosses to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from contracts.engine import EngineTask
from contracts.fine_tuning import FineTuningSpec
from contracts.jobs import EventLevel
from contracts.models import ModelCard


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file on this machine, with the name it was uploaded under."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """Everything is on this machine. `output` is where the weights shall be written; `scratch` is deleted later.

    `files` is by the names of the spec's fields, `reward_model` the folder of the grader's model if it has one.
    """

    spec: FineTuningSpec
    base: ModelCard
    weights: Path
    files: Mapping[str, DataFile]
    output: Path
    scratch: Path
    threads: int | None
    checkpoint_every_s: float
    reward_model: Path | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What lies in the task's output folder, and how the training went.

    `form` is what can be done with it: `adapter` is loaded beside its base, `full` is served by an engine of its own,
    and `unserved` only stored. `task` is None where it is the base's. `earlier_s` is how long those steps
    would have taken now which earlier attempts made, from whose checkpoint this one went on.
    """

    tokens: int
    metrics: dict[str, float] = field(default_factory=dict)
    form: Literal["adapter", "full", "unserved"] = "adapter"
    task: EngineTask | None = None
    earlier_s: float = 0.0


class Reporter(Protocol):
    """What a training needs of its job: `JobRun` is one; in several processes it is a line to the one that has it."""

    @property
    def must_rest(self) -> bool: ...

    def check(self, *, may_save: bool = False) -> None: ...

    def message(self, text: str, *, level: EventLevel = "info") -> None: ...

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None: ...

    def save_checkpoint(self, folder: Path, *, step: int, metrics: dict[str, float]) -> None: ...

    def latest_checkpoint(self, target: Path) -> int | None: ...
