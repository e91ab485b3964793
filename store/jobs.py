"""Jobs in SQL: the row is the truth about a job, whatever the queue or a worker believes.

A worker acts on a job only under a lease with a fence: a number that grows with every lease. Each of its writes
names its fence and is refused once a newer lease exists, so a worker that was thought dead cannot do harm
(Kleppmann, "How to do distributed locking", 2016).
"""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contracts.identifiers import new_id
from contracts.jobs import FINAL_STATUSES, EventLevel, EventType, Job, JobError, JobEvent, JobStatus
from contracts.models import ModelCard
from store.database import Database
from store.models import put_model
from store.tables import JobEventRow, JobRow


class LeaseLost(Exception):
    """Another worker holds the job now, or the job has ended (it may have been cancelled)."""


@dataclass(frozen=True, slots=True)
class AbandonedJob:
    id: str
    fence: int


class JobRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, *, family: str, tenant: str, spec: dict[str, Any], trace_context: dict[str, str]) -> Job:
        row = JobRow(
            id=new_id("ftjob"),
            family=family,
            tenant=tenant,
            status="queued",
            spec=spec,
            trace_context=trace_context,
            created_at=int(time.time()),
        )
        with self._database.session() as session:
            session.add(row)
            session.flush()
            _add_event(session, row.id, "message", "info", "Created the job and queued it.", {})
            return _to_job(row)

    def get(self, job_id: str) -> Job | None:
        with self._database.session() as session:
            row = session.get(JobRow, job_id)
            return None if row is None else _to_job(row)

    def page(self, *, tenant: str, family: str = "", after: str | None = None, limit: int = 20) -> list[Job]:
        """Newest first, at most `limit`, those older than the job `after`, of families that begin with `family`."""
        query = select(JobRow).where(JobRow.tenant == tenant, JobRow.family.startswith(family, autoescape=True))
        with self._database.session() as session:
            if after is not None and (cursor := session.get(JobRow, after)) is not None:
                query = query.where(
                    (JobRow.created_at < cursor.created_at)
                    | ((JobRow.created_at == cursor.created_at) & (JobRow.id < cursor.id))
                )
            query = query.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
            return [_to_job(row) for row in session.scalars(query)]

    def cancel(self, job_id: str, *, tenant: str) -> Job | None:
        """Cancels a job that has not ended; one that has stays as it is. None if the tenant has no such job."""
        with self._database.session() as session:
            row = _lock(session, job_id)
            if row is None or row.tenant != tenant:
                return None
            if row.status not in FINAL_STATUSES:
                _end(row, "cancelled")
                _add_event(session, job_id, "message", "info", "The job was cancelled.", {})
            return _to_job(row)

    def fail(self, job_id: str, error: JobError) -> None:
        """Ends a job that no worker holds, for example because it could not be queued."""
        with self._database.session() as session:
            row = _lock(session, job_id)
            if row is not None and row.status not in FINAL_STATUSES:
                _end(row, "failed", error=error)
                _add_event(session, job_id, "message", "error", error.message, {})

    def events(self, job_id: str, *, after: str | None = None, limit: int = 20) -> list[JobEvent]:
        """Newest first, as OpenAI lists them; those older than the event `after`."""
        query = select(JobEventRow).where(JobEventRow.job == job_id)
        with self._database.session() as session:
            if after is not None:
                cursor = select(JobEventRow.sequence).where(JobEventRow.id == after).scalar_subquery()
                query = query.where(JobEventRow.sequence < cursor)
            rows = session.scalars(query.order_by(JobEventRow.sequence.desc()).limit(limit))
            return [JobEvent.model_validate(row, from_attributes=True) for row in rows]

    def acquire(self, job_id: str, *, lease_s: float) -> tuple[Job, int] | None:
        """Takes the job with a new fence. None if it has ended, or another worker's lease is alive."""
        now = int(time.time())
        with self._database.session() as session:
            taken = session.execute(
                update(JobRow)
                .where(
                    JobRow.id == job_id,
                    JobRow.status.not_in(FINAL_STATUSES),
                    (JobRow.lease_expires_at.is_(None)) | (JobRow.lease_expires_at < now),
                )
                .values(fence=JobRow.fence + 1, lease_expires_at=now + int(lease_s), status="running")
            )
            if taken.rowcount == 0:  # type: ignore[attr-defined]
                return None
            row = session.get_one(JobRow, job_id)
            if row.started_at is None:
                row.started_at = now
            return _to_job(row), row.fence

    def abandoned(self, *, queued_for_s: float) -> list[AbandonedJob]:
        """Jobs that no worker holds and that perhaps no message speaks of: their lease ran out, or they were queued
        longer ago than `queued_for_s`. Oldest first.
        """
        now = int(time.time())
        waiting = JobRow.lease_expires_at.is_(None) & (JobRow.created_at < now - queued_for_s)
        query = (
            select(JobRow.id, JobRow.fence)
            .where(JobRow.status.not_in(FINAL_STATUSES), (JobRow.lease_expires_at < now) | waiting)
            .order_by(JobRow.created_at, JobRow.id)
        )
        with self._database.session() as session:
            return [AbandonedJob(*row) for row in session.execute(query)]

    def renew(self, job_id: str, fence: int, *, lease_s: float) -> None:
        with self._database.session() as session:
            self._held(session, job_id, fence).lease_expires_at = int(time.time() + lease_s)

    def release(self, job_id: str, fence: int) -> None:
        """Gives the lease back without an end, so that another worker can take the job at once."""
        with self._database.session() as session:
            row = self._held(session, job_id, fence)
            row.lease_expires_at, row.status = None, "queued"

    def add_event(
        self,
        job_id: str,
        fence: int,
        message: str,
        *,
        type: EventType = "message",
        level: EventLevel = "info",
        data: dict[str, Any] | None = None,
        estimated_finish_at: int | None = None,
    ) -> None:
        with self._database.session() as session:
            row = self._held(session, job_id, fence)
            if estimated_finish_at is not None:
                row.estimated_finish_at = estimated_finish_at
            _add_event(session, job_id, type, level, message, data or {})

    def finish(
        self,
        job_id: str,
        fence: int,
        status: JobStatus,
        *,
        message: str,
        result_model: str | None = None,
        trained_tokens: int | None = None,
        error: JobError | None = None,
        model: ModelCard | None = None,
    ) -> None:
        """Ends the job and registers `model` in one transaction: neither happens without the other."""
        with self._database.session() as session:
            row = self._held(session, job_id, fence)
            if model is not None:
                put_model(session, model)
            _end(row, status, error=error)
            row.result_model, row.trained_tokens = result_model, trained_tokens
            _add_event(session, job_id, "message", "error" if error else "info", message, {})

    @staticmethod
    def _held(session: Session, job_id: str, fence: int) -> JobRow:
        row = _lock(session, job_id)
        if row is None or row.fence != fence or row.status in FINAL_STATUSES:
            raise LeaseLost(job_id)
        return row


def _lock(session: Session, job_id: str) -> JobRow | None:
    """The row, which nobody else can change until this transaction ends.

    SQLite knows no `FOR UPDATE`; on both databases an update that changes nothing takes the lock.
    """
    session.execute(update(JobRow).where(JobRow.id == job_id).values(fence=JobRow.fence))
    return session.get(JobRow, job_id)


def _end(row: JobRow, status: JobStatus, *, error: JobError | None = None) -> None:
    row.status, row.finished_at, row.lease_expires_at = status, int(time.time()), None
    row.error = None if error is None else error.model_dump()


def _add_event(
    session: Session, job_id: str, type: EventType, level: EventLevel, message: str, data: dict[str, Any]
) -> None:
    session.add(
        JobEventRow(
            id=new_id("ftevent"),
            job=job_id,
            type=type,
            level=level,
            message=message,
            data=data,
            created_at=int(time.time()),
        )
    )


def _to_job(row: JobRow) -> Job:
    return Job.model_validate(row, from_attributes=True)
