"""What every write to a job's row goes through: how one is added, its lock, and the check of the writer's fence."""

import time
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from contracts.identifiers import new_id
from contracts.jobs import FINAL_STATUSES, EventLevel, EventType, JobQueueName
from store.tables import JobEventRow, JobRow


class LeaseLost(Exception):
    """Another worker holds the job now, or the job has ended (it may have been cancelled)."""


def add_job(
    session: Session,
    *,
    family: str,
    tenant: str,
    spec: dict[str, Any],
    trace_context: dict[str, str],
    queue: JobQueueName = "cpu",
    priority: int = 0,
) -> JobRow:
    """A job that waits for a worker, in a transaction of the caller's."""
    row = JobRow(
        id=new_id("ftjob"),
        family=family,
        tenant=tenant,
        status="queued",
        spec=spec,
        queue=queue,
        priority=priority,
        trace_context=trace_context,
        created_at=int(time.time()),
    )
    session.add(row)
    session.flush()
    add_job_event(session, row.id, "Created the job and queued it.")
    return row


def lock_job(session: Session, job_id: str) -> JobRow | None:
    """The row, which nobody else can change until this transaction ends.

    SQLite knows no `FOR UPDATE`; on both databases an update that changes nothing takes the lock.
    """
    session.execute(update(JobRow).where(JobRow.id == job_id).values(fence=JobRow.fence))
    return session.get(JobRow, job_id)


def held_job(session: Session, job_id: str, fence: int) -> JobRow:
    """The locked row, for a worker that writes under `fence`. Raises LeaseLost."""
    row = lock_job(session, job_id)
    if row is None or row.fence != fence or row.status in FINAL_STATUSES:
        raise LeaseLost(job_id)
    return row


def add_job_event(
    session: Session,
    job_id: str,
    message: str,
    *,
    type: EventType = "message",
    level: EventLevel = "info",
    data: dict[str, Any] | None = None,
) -> None:
    session.add(
        JobEventRow(
            id=new_id("ftevent"),
            job=job_id,
            type=type,
            level=level,
            message=message,
            data=data or {},
            created_at=int(time.time()),
        )
    )
