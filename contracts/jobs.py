"""Jobs: what a job is asked to do, how it stands, and what it tells while it runs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

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
