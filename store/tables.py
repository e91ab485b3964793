"""The tables. Times are Unix seconds; JSON columns hold what no query looks into."""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[dict[str, str]]: JSON,
        list[dict[str, Any]]: JSON,
    }


class LimitColumns:
    """What a key or a tenant may use: the columns of contracts.limits.Limits."""

    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    concurrency: Mapped[int | None]
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_month: Mapped[int | None] = mapped_column(BigInteger)
    money_per_day: Mapped[float | None]
    money_per_month: Mapped[float | None]


class TenantRow(LimitColumns, Base):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)


class ApiKeyRow(LimitColumns, Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(128))
    hint: Mapped[str] = mapped_column(String(32))
    scopes: Mapped[list[str]]
    models: Mapped[list[str] | None]
    semantic_cache: Mapped[bool] = mapped_column(server_default=false())
    capture: Mapped[float | None]
    guardrails: Mapped[dict[str, Any] | None]
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)


class FileRow(Base):
    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(80))
    artifact: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[int] = mapped_column(BigInteger)


class UploadRow(Base):
    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_status_expires_at", "status", "expires_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    file: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class UploadPartRow(Base):
    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    upload: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)


class ModelRow(Base):
    __tablename__ = "models"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    task: Mapped[str] = mapped_column(String(16))
    parent: Mapped[str | None] = mapped_column(String(255), index=True)
    tenant: Mapped[str | None] = mapped_column(String(64), index=True)
    weights: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(80))
    data_digest: Mapped[str | None] = mapped_column(String(80))
    job: Mapped[str | None] = mapped_column(String(64))
    metrics: Mapped[dict[str, Any]]
    licence: Mapped[str | None] = mapped_column(String(128))
    context_length: Mapped[int]
    input_price: Mapped[float | None]
    output_price: Mapped[float | None]
    on_demand: Mapped[bool]
    created_at: Mapped[int] = mapped_column(BigInteger)


class JobRow(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    family: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(32), index=True)
    spec: Mapped[dict[str, Any]]
    queue: Mapped[str] = mapped_column(String(32), default="cpu")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    not_before: Mapped[int | None] = mapped_column(BigInteger)
    result_model: Mapped[str | None] = mapped_column(String(255))
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    artifact_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    error: Mapped[dict[str, Any] | None]
    trace_context: Mapped[dict[str, Any]]
    fence: Mapped[int] = mapped_column(Integer, default=0)
    lease_expires_at: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    finished_at: Mapped[int | None] = mapped_column(BigInteger)
    estimated_finish_at: Mapped[int | None] = mapped_column(BigInteger)


class JobEventRow(Base):
    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job_sequence", "job", "sequence"),)

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    type: Mapped[str] = mapped_column(String(16))
    level: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[int] = mapped_column(BigInteger)


class CaptureRow(Base):
    """An answered request, redacted."""

    __tablename__ = "captures"
    __table_args__ = (
        Index("ix_captures_tenant_response_id", "tenant", "response_id"),
        Index("ix_captures_tenant_created_at", "tenant", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    route: Mapped[str] = mapped_column(String(64))
    messages: Mapped[list[dict[str, str]]]
    answer: Mapped[str] = mapped_column(Text)
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    user_hash: Mapped[str | None] = mapped_column(String(64))
    redacted: Mapped[dict[str, Any]]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    duration_s: Mapped[float]
    first_token_s: Mapped[float | None]
    created_at: Mapped[int] = mapped_column(BigInteger, index=True)


class FeedbackRow(Base):
    """What a tenant thinks of one of its answers, captured or not; the last word counts."""

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("tenant", "response_id"),
        Index("ix_feedback_model_created_at", "model", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(255))
    rating: Mapped[str | None] = mapped_column(String(8))
    correction: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, index=True)


class FeedbackTagRow(Base):
    __tablename__ = "feedback_tags"

    feedback: Mapped[str] = mapped_column(ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class AliasRow(Base):
    """`owner` is a tenant, or empty where every tenant may use the alias: a key's columns cannot be null."""

    __tablename__ = "aliases"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    model: Mapped[str] = mapped_column(String(255))
    release: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int] = mapped_column(BigInteger)


class ReleaseRow(Base):
    __tablename__ = "releases"
    __table_args__ = (Index("ix_releases_created_at", "created_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    alias: Mapped[str] = mapped_column(String(128))
    owner: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64))
    stable: Mapped[str] = mapped_column(String(255))
    candidate: Mapped[str] = mapped_column(String(255))
    policy: Mapped[dict[str, Any]]
    evaluation_file: Mapped[str | None] = mapped_column(String(64))
    evaluation_digest: Mapped[str | None] = mapped_column(String(80))
    evaluation_job: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    stage: Mapped[int]
    version: Mapped[int]
    looks: Mapped[int]
    next_look_at: Mapped[int] = mapped_column(BigInteger)
    evidence: Mapped[dict[str, Any] | None]
    created_at: Mapped[int] = mapped_column(BigInteger)
    entered_at: Mapped[float] = mapped_column(Double)
    finished_at: Mapped[int | None] = mapped_column(BigInteger)


class ReleaseMoveRow(Base):
    """What was done to a release, in the order of its versions."""

    __tablename__ = "release_moves"

    release: Mapped[str] = mapped_column(ForeignKey("releases.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    from_state: Mapped[str | None] = mapped_column(String(16))
    from_stage: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[int]
    actor: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    evidence: Mapped[dict[str, Any] | None]
    created_at: Mapped[int] = mapped_column(BigInteger)


class JobCheckpointRow(Base):
    __tablename__ = "job_checkpoints"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    step: Mapped[int]
    fence: Mapped[int]
    artifact: Mapped[str | None] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(80))
    bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[int] = mapped_column(BigInteger)


class EvalRow(Base):
    __tablename__ = "evals"
    __table_args__ = (Index("ix_evals_tenant_created_at", "tenant", "created_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    data_source_config: Mapped[dict[str, Any]]
    testing_criteria: Mapped[list[dict[str, Any]]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)


class EvalRunRow(Base):
    """How it stands is its job's to say; `results` is empty until it has ended."""

    __tablename__ = "eval_runs"
    __table_args__ = (Index("ix_eval_runs_eval_created_at", "eval", "created_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    eval: Mapped[str] = mapped_column(ForeignKey("evals.id", ondelete="CASCADE"))
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    name: Mapped[str] = mapped_column(String(255))
    data_source: Mapped[dict[str, Any]]
    baseline: Mapped[str | None] = mapped_column(String(64))
    schedule: Mapped[str | None] = mapped_column(String(64), index=True)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    results: Mapped[dict[str, Any]]
    created_at: Mapped[int] = mapped_column(BigInteger)


class EvalScheduleRow(Base):
    """Its runs stay when it is deleted."""

    __tablename__ = "eval_schedules"
    __table_args__ = (Index("ix_eval_schedules_paused_next_run_at", "paused", "next_run_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    eval: Mapped[str] = mapped_column(ForeignKey("evals.id", ondelete="CASCADE"), index=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    creator: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    timing: Mapped[dict[str, Any]]
    data_source: Mapped[dict[str, Any]]
    baseline: Mapped[str] = mapped_column(String(64))
    criteria: Mapped[list[str] | None]
    alert: Mapped[dict[str, Any]]
    paused: Mapped[bool]
    next_run_at: Mapped[int] = mapped_column(BigInteger)
    last_run: Mapped[str | None] = mapped_column(String(64))
    skipped_at: Mapped[int | None] = mapped_column(BigInteger)
    skip_reason: Mapped[str | None] = mapped_column(String(32))
    drift: Mapped[str | None] = mapped_column(String(8))
    watched_since: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)


class EvalItemRow(Base):
    """An answered and graded row of a run."""

    __tablename__ = "eval_items"
    __table_args__ = (UniqueConstraint("run", "position"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("eval_runs.id", ondelete="CASCADE"))
    position: Mapped[int]
    status: Mapped[str] = mapped_column(String(8))
    item: Mapped[dict[str, Any]]
    sample: Mapped[dict[str, Any]]
    results: Mapped[list[dict[str, Any]]]
    created_at: Mapped[int] = mapped_column(BigInteger)
