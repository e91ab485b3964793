"""Jobs: what a job is asked to do, how it stands, and what it tells while it runs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
AT_WORK: frozenset[JobStatus] = frozenset({"validating_files", "running"})
"""A worker has the job."""

STARTED = "The job started"
"""How the message begins by which a worker says that it has taken up a job."""

JobQueueName = Literal["cpu", "gpu"]

EventType = Literal["message", "metrics"]
EventLevel = Literal["info", "warn", "error"]


class JobError(BaseModel):
    """OpenAI's `error` object of a job. `message` is written for the person who started the job."""

    code: str
    message: str
    param: str | None = None


class Job(BaseModel):
    """A job as the store holds it. The row is the truth; Celery carries only `id`."""

    model_config = ConfigDict(frozen=True)

    id: str
    family: str = Field(description="The registered job family, for example `finetune.supervised`.")
    tenant: str
    status: JobStatus
    spec: dict[str, Any]
    queue: JobQueueName = Field("cpu", description="The workers that may run it.")
    priority: int = Field(0, description="Lower is earlier, among the jobs that wait in one queue.")
    attempts: int = Field(0, description="Attempts that broke down since the job last got further.")
    not_before: int | None = Field(None, description="Time before which no worker takes it up.")
    result_model: str | None = None
    trained_tokens: int | None = None
    error: JobError | None = None
    trace_context: dict[str, str] = Field(default_factory=dict, description="W3C trace context of the creator.")
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    estimated_finish_at: int | None = None


class JobEvent(BaseModel):
    """Something that a job tells. `data` of a metrics event holds `step`, `total_steps`, `train_loss`, …"""

    model_config = ConfigDict(frozen=True)

    id: str
    job: str
    type: EventType
    level: EventLevel = "info"
    message: str
    data: dict[str, Any] = Field(default_factory=dict)
    created_at: int


class JobCheckpoint(BaseModel):
    """The state of a training after `step`. `artifact` is None once newer states have taken its place."""

    model_config = ConfigDict(frozen=True)

    id: str
    job: str
    step: int
    fence: int
    artifact: str | None
    digest: str
    bytes: int
    metrics: dict[str, float]
    created_at: int


class NewJobEvent(BaseModel):
    """An event that a worker has yet to write; it may have to wait for a database that is away."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: EventType = "message"
    level: EventLevel = "info"
    data: dict[str, Any] = Field(default_factory=dict)
    created_at: int


class RetryPolicy(BaseModel):
    """How often a job is tried that breaks down without a fault of its own, and how long it pauses in between."""

    model_config = ConfigDict(frozen=True)

    max_attempts: int
    first_pause_s: float
    longest_pause_s: float

    def pause_s(self, attempts: int) -> float:
        """After `attempts` that broke down. Each pause is twice as long as the one before."""
        return min(self.longest_pause_s, self.first_pause_s * 2.0 ** (attempts - 1))
