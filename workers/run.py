"""What a job family sees of its job: where to tell, when to stop, and what to work with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.jobs import EventLevel, Job
from contracts.models import ModelCard
from store.artifacts import ArtifactStore
from store.files import FileRepository
from store.jobs import JobRepository
from store.models import ModelRepository
from workers.heartbeat import Heartbeat


class JobFailed(Exception):
    """A failure that was to be expected, with words for the person who started the job."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


@dataclass(frozen=True, slots=True)
class JobResources:
    """What every job may read and write. `threads` is None for one thread a core, over all `processes`."""

    models: ModelRepository
    files: FileRepository
    artifacts: ArtifactStore
    threads: int | None
    processes: int = 1


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job made. The runner registers the model in the same transaction that ends the job."""

    message: str
    model: ModelCard | None = None
    trained_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class JobRun:
    """One attempt at a job, under the lease with `fence`.

    `scratch` is an empty folder that is deleted after the attempt. Artifacts belong under `artifact_folder`: it is the
    attempt's own, so that a worker that was thought dead cannot overwrite what its successor stored.
    """

    job: Job
    fence: int
    scratch: Path
    resources: JobResources
    _jobs: JobRepository = field(repr=False)
    _heartbeat: Heartbeat = field(repr=False)

    @property
    def artifact_folder(self) -> str:
        return artifact_folder(self.job.id, self.fence)

    def check(self) -> None:
        """Call often, at least every second or two. Costs nothing. Raises JobCancelled, JobInterrupted, LeaseLost."""
        self._heartbeat.check()

    def message(self, text: str, *, level: EventLevel = "info") -> None:
        """One small transaction. Raises LeaseLost."""
        self._jobs.add_event(self.job.id, self.fence, text, level=level)

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None:
        """One small transaction. Raises LeaseLost."""
        self._jobs.add_event(
            self.job.id, self.fence, text, type="metrics", data=data, estimated_finish_at=estimated_finish_at
        )


def artifact_folder(job_id: str, fence: int) -> str:
    return f"models/{job_id}/{fence}"
