"""Jobs in SQL: the row is the truth about a job, whatever the queue or a worker believes.

A worker acts on a job only under a lease with a fence: a number that grows with every lease. Each of its writes
names its fence and is refused once a newer lease exists, so a worker that was thought dead cannot do harm
(Kleppmann, "How to do distributed locking", 2016).
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, case, func, select, text, update
from sqlalchemy.orm import Session, aliased

from contracts.identifiers import new_id
from contracts.jobs import (
    AT_WORK,
    FINAL_STATUSES,
    EventLevel,
    EventType,
    Job,
    JobError,
    JobEvent,
    JobQueueName,
    JobStatus,
    NewJobEvent,
    RetryPolicy,
)
from contracts.models import ModelCard
from store.database import Database
from store.job_rows import LeaseLost, add_job, add_job_event, held_job, lock_job
from store.models import put_model
from store.paging import newest_first
from store.tables import JobEventRow, JobRow

AT_REST: frozenset[JobStatus] = FINAL_STATUSES | {"paused"}
"""No worker takes up a job in one of these."""
ACTIVE: tuple[JobStatus, ...] = ("validating_files", "queued", "running")
NOT_ENDED: tuple[JobStatus, ...] = (*ACTIVE, "paused")
"""Asked for by name, so that the index on the status is used however many jobs have ended."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    id: str
    fence: int
    queue: str


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """`sequence` grows with each event of a job, so that a reader knows where it was."""

    sequence: int
    event: JobEvent


class JobRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    # What people ask of a job.

    def create(
        self,
        *,
        family: str,
        tenant: str,
        spec: dict[str, Any],
        trace_context: dict[str, str],
        queue: JobQueueName = "cpu",
        priority: int = 0,
    ) -> Job:
        with self._database.session() as session:
            row = add_job(
                session,
                family=family,
                tenant=tenant,
                spec=spec,
                trace_context=trace_context,
                queue=queue,
                priority=priority,
            )
            return _to_job(row)

    def get(self, job_id: str) -> Job | None:
        with self._database.session() as session:
            row = session.get(JobRow, job_id)
            return None if row is None else _to_job(row)

    def page(self, *, tenant: str, family: str = "", after: str | None = None, limit: int = 20) -> list[Job]:
        """Newest first, at most `limit`, those older than the job `after`, of families that begin with `family`."""
        query = select(JobRow).where(JobRow.tenant == tenant, JobRow.family.startswith(family, autoescape=True))
        with self._database.session() as session:
            query = newest_first(session, query, JobRow, after).limit(limit)
            return [_to_job(row) for row in session.scalars(query)]

    def cancel(self, job_id: str, *, tenant: str) -> Job | None:
        """Cancels a job that has not ended; one that has stays as it is. None if the tenant has no such job."""
        with self._database.session() as session:
            row = lock_job(session, job_id)
            if row is None or row.tenant != tenant:
                return None
            if row.status not in FINAL_STATUSES:
                _end(row, "cancelled")
                add_job_event(session, job_id, "The job was cancelled.")
            return _to_job(row)

    def pause(self, job_id: str, *, tenant: str) -> Job | None:
        """Pauses a job that waits or runs; the worker that runs it hears of it and saves what it has.

        A job that has ended stays as it is. None if the tenant has no such job.
        """
        with self._database.session() as session:
            row = lock_job(session, job_id)
            if row is None or row.tenant != tenant:
                return None
            if row.status not in AT_REST:
                row.status = "paused"
                add_job_event(session, job_id, "The job was paused.")
            return _to_job(row)

    def resume(self, job_id: str, *, tenant: str) -> Job | None:
        """Queues a paused job again; any other stays as it is. None if the tenant has no such job."""
        with self._database.session() as session:
            row = lock_job(session, job_id)
            if row is None or row.tenant != tenant:
                return None
            if row.status == "paused":
                row.status, row.not_before, row.attempts = "queued", None, 0
                add_job_event(session, job_id, "The job was resumed and queued.")
            return _to_job(row)

    def fail(self, job_id: str, error: JobError) -> None:
        """Ends a job that no worker holds, for example because it could not be queued."""
        with self._database.session() as session:
            row = lock_job(session, job_id)
            if row is not None and row.status not in FINAL_STATUSES:
                _end(row, "failed", error=error)
                add_job_event(session, job_id, error.message, level="error")

    def events(self, job_id: str, *, after: str | None = None, limit: int = 20) -> list[JobEvent]:
        """Newest first, as OpenAI lists them; those older than the event `after`."""
        query = select(JobEventRow).where(JobEventRow.job == job_id)
        with self._database.session() as session:
            if after is not None:
                cursor = select(JobEventRow.sequence).where(JobEventRow.id == after).scalar_subquery()
                query = query.where(JobEventRow.sequence < cursor)
            rows = session.scalars(query.order_by(JobEventRow.sequence.desc()).limit(limit))
            return [JobEvent.model_validate(row, from_attributes=True) for row in rows]

    def sequence_of(self, job_id: str, event_id: str) -> int | None:
        """None if the job has no such event."""
        query = select(JobEventRow.sequence).where(JobEventRow.job == job_id, JobEventRow.id == event_id)
        with self._database.session() as session:
            return session.scalar(query)

    def events_since(self, job_id: str, sequence: int, *, limit: int) -> list[NumberedEvent]:
        """Oldest first, those with a higher number than `sequence`."""
        query = select(JobEventRow).where(JobEventRow.job == job_id, JobEventRow.sequence > sequence)
        with self._database.session() as session:
            rows = session.scalars(query.order_by(JobEventRow.sequence).limit(limit))
            return [NumberedEvent(row.sequence, JobEvent.model_validate(row, from_attributes=True)) for row in rows]

    # What workers do with it.

    def next_waiting(self, like: str, *, tenant_limit: int | None = None) -> str | None:
        """The job that should run next in the queue of the job `like`: by priority, then one of the tenant that has
        fewest running, then the oldest. Tenants that have `tenant_limit` running are passed over.
        """
        now = int(time.time())
        busy = _running_of_tenant(now)
        query = (
            select(JobRow.id)
            .where(
                JobRow.queue == select(JobRow.queue).where(JobRow.id == like).scalar_subquery(),
                *_may_start(now),
                JobRow.lease_expires_at.is_(None),
            )
            .order_by(JobRow.priority, busy, JobRow.created_at, JobRow.id)
            .limit(1)
        )
        if tenant_limit is not None:
            query = query.where(busy < tenant_limit)
        with self._database.session() as session:
            return session.scalar(query)

    def acquire(self, job_id: str, *, lease_s: float, tenant_limit: int | None = None) -> tuple[Job, int] | None:
        """Takes the job with a new fence. None if it is at rest or must wait, another worker's lease is alive, or its
        tenant has `tenant_limit` jobs running already.
        """
        now = int(time.time())
        taking = update(JobRow).where(
            JobRow.id == job_id,
            *_may_start(now),
            (JobRow.lease_expires_at.is_(None)) | (JobRow.lease_expires_at < now),
        )
        if tenant_limit is not None:
            taking = taking.where(_running_of_tenant(now) < tenant_limit)
        broke_down = case((JobRow.status.in_(AT_WORK), JobRow.attempts + 1), else_=JobRow.attempts)
        with self._database.session() as session:
            if tenant_limit is not None:
                _one_at_a_time_for_the_tenant_of(session, job_id)
            taken = session.execute(
                taking.values(
                    fence=JobRow.fence + 1, lease_expires_at=now + int(lease_s), status="running", attempts=broke_down
                ).execution_options(synchronize_session=False)
            )
            if taken.rowcount == 0:  # type: ignore[attr-defined]
                return None
            row = session.get_one(JobRow, job_id)
            if row.started_at is None:
                row.started_at = now
            return _to_job(row), row.fence

    def waiting(self, *, queued_for_s: float) -> list[WaitingJob]:
        """Jobs that no worker holds and that perhaps no message speaks of: their pause is over, or they were queued
        longer ago than `queued_for_s`. Oldest first.
        """
        now = int(time.time())
        query = (
            select(JobRow.id, JobRow.fence, JobRow.queue)
            .where(
                *_may_start(now),
                JobRow.lease_expires_at.is_(None),
                JobRow.not_before.is_not(None) | (JobRow.created_at < now - queued_for_s),
            )
            .order_by(JobRow.created_at, JobRow.id)
        )
        with self._database.session() as session:
            return [WaitingJob(*row) for row in session.execute(query)]

    def with_dead_worker(self) -> list[str]:
        """Jobs whose lease has run out."""
        query = select(JobRow.id).where(JobRow.status.in_(NOT_ENDED), JobRow.lease_expires_at < int(time.time()))
        with self._database.session() as session:
            return list(session.scalars(query.order_by(JobRow.created_at, JobRow.id)))

    def take_back(self, job_id: str, policy: RetryPolicy, *, reason: str) -> JobStatus | None:
        """What `retry` does, for a job whose worker is dead. None if another process was faster, or the worker lives.

        The fence grows: the worker may only have been slow.
        """
        with self._database.session() as session:
            row = lock_job(session, job_id)
            if row is None or row.lease_expires_at is None or row.lease_expires_at >= time.time():
                return None
            row.fence += 1
            return _try_again(session, row, policy, reason)

    def held_status(self, job_id: str, fence: int) -> JobStatus:
        """One read. Raises LeaseLost."""
        query = select(JobRow.status, JobRow.fence).where(JobRow.id == job_id)
        with self._database.session() as session:
            found = session.execute(query).one_or_none()
        if found is None or found.fence != fence or found.status in FINAL_STATUSES:
            raise LeaseLost(job_id)
        status: JobStatus = found.status
        return status

    def renew(self, job_id: str, fence: int, *, lease_s: float) -> None:
        with self._database.session() as session:
            held_job(session, job_id, fence).lease_expires_at = int(time.time() + lease_s)

    def set_working(self, job_id: str, fence: int, status: Literal["validating_files", "running"]) -> None:
        """What a worker does with the job now. A job that was paused meanwhile stays so. Raises LeaseLost."""
        with self._database.session() as session:
            row = held_job(session, job_id, fence)
            if row.status in AT_WORK:
                row.status = status

    def release(self, job_id: str, fence: int) -> JobStatus:
        """Gives the lease back without an end: the job is paused, or queued for another worker to take at once."""
        with self._database.session() as session:
            row = held_job(session, job_id, fence)
            row.lease_expires_at = None
            if row.status in AT_WORK:
                row.status = "queued"
            return _to_job(row).status

    def retry(self, job_id: str, fence: int, policy: RetryPolicy, *, reason: str) -> JobStatus:
        """Gives a job back whose attempt broke down for `reason`, which people read. It waits longer each time, and
        fails at last. Raises LeaseLost.
        """
        with self._database.session() as session:
            return _try_again(session, held_job(session, job_id, fence), policy, reason)

    def add_event(
        self,
        job_id: str,
        fence: int,
        message: str,
        *,
        type: EventType = "message",
        level: EventLevel = "info",
        data: dict[str, Any] | None = None,
    ) -> None:
        event = NewJobEvent(message=message, type=type, level=level, data=data or {}, created_at=int(time.time()))
        self.add_events(job_id, fence, [event])

    def add_events(
        self, job_id: str, fence: int, events: Sequence[NewJobEvent], *, estimated_finish_at: int | None = None
    ) -> None:
        """All of them or none. Raises LeaseLost."""
        with self._database.session() as session:
            row = held_job(session, job_id, fence)
            if estimated_finish_at is not None:
                row.estimated_finish_at = estimated_finish_at
            session.add_all([JobEventRow(id=new_id("ftevent"), job=job_id, **event.model_dump()) for event in events])

    def finish(
        self,
        job_id: str,
        fence: int,
        status: JobStatus,
        *,
        message: str,
        result_model: str | None = None,
        trained_tokens: int | None = None,
        artifact_bytes: int = 0,
        error: JobError | None = None,
        model: ModelCard | None = None,
    ) -> None:
        """Ends the job and registers `model` in one transaction: neither happens without the other."""
        with self._database.session() as session:
            row = held_job(session, job_id, fence)
            if model is not None:
                put_model(session, model)
            _end(row, status, error=error)
            row.result_model, row.trained_tokens, row.artifact_bytes = result_model, trained_tokens, artifact_bytes
            add_job_event(session, job_id, message, level="error" if error else "info")


def _may_start(now: int) -> tuple[ColumnElement[bool], ...]:
    return JobRow.status.in_(ACTIVE), (JobRow.not_before.is_(None)) | (JobRow.not_before <= now)


def _running_of_tenant(now: int) -> Any:
    """How many jobs of the row's tenant workers hold."""
    other = aliased(JobRow)
    return (
        select(func.count())
        .where(other.tenant == JobRow.tenant, other.lease_expires_at >= now, other.status.in_(NOT_ENDED))
        .correlate(JobRow)
        .scalar_subquery()
    )


def _one_at_a_time_for_the_tenant_of(session: Session, job_id: str) -> None:
    """Two workers that count a tenant's jobs at once would both find room. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtext(tenant)) FROM jobs WHERE id = :job")
        session.execute(lock, {"job": job_id})


def _try_again(session: Session, row: JobRow, policy: RetryPolicy, reason: str) -> JobStatus:
    row.lease_expires_at = None
    if row.status == "paused":
        return "paused"
    row.attempts += 1
    if row.attempts >= policy.max_attempts:
        message = f"The job broke down {row.attempts} times and got no further. The last time: {reason}"
        _end(row, "failed", error=JobError(code="too_many_attempts", message=message))
        add_job_event(session, row.id, message, level="error")
        return "failed"
    pause_s = policy.pause_s(row.attempts)
    row.status, row.not_before = "queued", int(time.time()) + math.ceil(pause_s)
    message = f"{reason} Trying again in {pause_s:.0f} s (attempt {row.attempts + 1} of {policy.max_attempts})."
    add_job_event(session, row.id, message, level="warn")
    return "queued"


def _end(row: JobRow, status: JobStatus, *, error: JobError | None = None) -> None:
    row.status, row.finished_at, row.lease_expires_at = status, int(time.time()), None
    row.error = None if error is None else error.model_dump()


def _to_job(row: JobRow) -> Job:
    return Job.model_validate(row, from_attributes=True)
