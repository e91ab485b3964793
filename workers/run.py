"""What a job family sees of its job: where to tell, when to stop, and what to work with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from contracts.jobs import EventLevel, Job, NewJobEvent
from contracts.models import ModelCard
from contracts.settings import EvaluationSettings
from store.artifacts import ArtifactStore, DigestMismatch
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.files import FileRepository
from store.job_checkpoints import CheckpointRepository
from store.job_rows import LeaseLost
from store.job_usage import JobUsage
from store.jobs import JobRepository
from store.models import ModelRepository
from workers.bench import Bench
from workers.engines import Engines
from workers.gateway import Caller, CannotCall, GatewayAccess
from workers.heartbeat import Heartbeat
from workers.journal import Journal

log = structlog.get_logger(__name__)


class JobFailed(Exception):
    """A failure that was to be expected, with words for the person who started the job."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


@dataclass(frozen=True, slots=True)
class Room:
    """What jobs may take up. `quota_bytes` of a tenant's artifacts; `scratch_bytes` of one job; None for no bound."""

    usage: JobUsage
    quota_bytes: int | None
    scratch_bytes: int | None


@dataclass(frozen=True, slots=True)
class Machines:
    """Those that train a job together: how many, where they meet, and the file in which all find what to do."""

    count: int
    meeting_point: str
    task_file: Path


@dataclass(frozen=True, slots=True)
class JobResources:
    """What every job may read and write. `threads` is None for one thread a core, over all `processes` of a machine.

    `machines` is None for this one alone.
    """

    models: ModelRepository
    jobs: JobRepository
    evals: EvalRepository
    schedules: EvalScheduleRepository
    files: FileRepository
    artifacts: ArtifactStore
    engines: Engines
    gateway: GatewayAccess
    checkpoints: CheckpointRepository
    room: Room
    evaluation: EvaluationSettings
    threads: int | None
    processes: int = 1
    machines: Machines | None = None
    checkpoint_every_s: float = 60.0
    bench: Bench | None = None


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
    _journal: Journal = field(repr=False)
    _heartbeat: Heartbeat = field(repr=False)

    @property
    def artifact_folder(self) -> str:
        return artifact_folder(self.job.id, self.fence)

    @property
    def must_rest(self) -> bool:
        """Save a checkpoint and call `check`: the job was paused, or its worker stops. Costs nothing."""
        return self._heartbeat.must_rest

    def check(self, *, may_save: bool = False) -> None:
        """Call often, at least every second or two. Costs nothing.

        Raises JobCancelled, LeaseLost, JobPaused, JobInterrupted; the last two not with `may_save`, which is for
        those who look at `must_rest` where they can save. A job that is deep in a step when it is cancelled, and does
        not call, has its process ended.
        """
        self._heartbeat.check(may_save=may_save)

    def message(self, text: str, *, level: EventLevel = "info") -> None:
        """One small transaction; waits for no database that is away. Raises LeaseLost."""
        self._journal.tell(NewJobEvent(message=text, level=level, created_at=int(time.time())))

    def metrics(self, text: str, data: dict[str, Any], *, estimated_finish_at: int | None = None) -> None:
        """One small transaction; waits for no database that is away. Raises LeaseLost."""
        event = NewJobEvent(message=text, type="metrics", data=data, created_at=int(time.time()))
        self._journal.tell(event, estimated_finish_at=estimated_finish_at)

    @contextmanager
    def calling(self, creator: str) -> Iterator[Caller]:
        """Models are asked as an application would that has the key `creator`. Raises JobFailed."""
        try:
            with self.resources.gateway.calling_for(self.job, creator) as caller:
                yield caller
        except CannotCall as refusal:
            raise JobFailed(refusal.code, refusal.message) from None

    @contextmanager
    def validating_files(self) -> Iterator[None]:
        """The job's status tells so while the block runs. Raises LeaseLost."""
        self._journal.set_working("validating_files")
        yield
        self._journal.set_working("running")

    def save_checkpoint(self, folder: Path, *, step: int, metrics: dict[str, float]) -> None:
        """Stores `folder` as the state after `step`, to go on from if this attempt does not reach the end.

        The two newest states are kept. Raises LeaseLost, and the errors of a store that is away or full.
        """
        artifacts, artifact = self.resources.artifacts, f"{checkpoints_folder(self.job.id)}/{self.fence}/{step}"
        try:
            digest = artifacts.upload_folder(folder, artifact)
        except Exception:  # half of it may be there, and take the room that the job needs for its end
            artifacts.delete(artifact)
            raise
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        try:
            superfluous = self.resources.checkpoints.add(
                self.job.id, self.fence, step=step, artifact=artifact, digest=digest, bytes=stored, metrics=metrics
            )
        except LeaseLost:
            artifacts.delete(artifact)
            raise
        for old in superfluous:
            artifacts.delete(old)

    def latest_checkpoint(self, target: Path) -> int | None:
        """Brings the newest whole state to `target` and returns its step; None if there is none.

        Its digest is checked. A damaged one is passed over for the one before.
        """
        for checkpoint in self.resources.checkpoints.with_state(self.job.id):
            assert checkpoint.artifact is not None
            try:
                self.resources.artifacts.download_folder(checkpoint.artifact, target, digest=checkpoint.digest)
            except (DigestMismatch, FileNotFoundError) as damage:
                log.warning("checkpoint not usable", step=checkpoint.step, reason=type(damage).__name__)
                self.message(f"The checkpoint of step {checkpoint.step} is damaged and is passed over.", level="warn")
            else:
                return checkpoint.step
        return None


def artifact_folder(job_id: str, fence: int) -> str:
    return f"models/{job_id}/{fence}"


def checkpoints_folder(job_id: str) -> str:
    return f"checkpoints/{job_id}"
