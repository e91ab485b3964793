"""Checkpoints of jobs in SQL: where the state of a training lies, and what its metrics were."""

import time

from sqlalchemy import delete, select, update

from contracts.identifiers import new_id
from contracts.jobs import FINAL_STATUSES, JobCheckpoint
from store.database import Database
from store.job_rows import held_job
from store.tables import JobCheckpointRow, JobRow

KEPT_STATES = 2
"""The newest state to go on from, and the one before it for the case that the newest is damaged."""


class CheckpointRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        job_id: str,
        fence: int,
        *,
        step: int,
        artifact: str,
        digest: str,
        bytes: int,
        metrics: dict[str, float],
    ) -> list[str]:
        """Lists a checkpoint whose state is stored. Returns the artifacts that it makes superfluous.

        A checkpoint is progress: the job's broken attempts no longer count. Raises LeaseLost.
        """
        with self._database.session() as session:
            held_job(session, job_id, fence).attempts = 0
            # Steps from here on belong to an attempt that got further but whose state could not be used.
            repeated = (JobCheckpointRow.job == job_id) & (JobCheckpointRow.step >= step)
            superfluous = list(session.scalars(select(JobCheckpointRow.artifact).where(repeated)))
            session.execute(delete(JobCheckpointRow).where(repeated))
            row = JobCheckpointRow(
                id=new_id("ftckpt"),
                job=job_id,
                step=step,
                fence=fence,
                artifact=artifact,
                digest=digest,
                bytes=bytes,
                metrics=metrics,
                created_at=int(time.time()),
            )
            session.add(row)
            session.flush()
            stored = select(JobCheckpointRow).where(
                JobCheckpointRow.job == job_id, JobCheckpointRow.artifact.is_not(None)
            )
            for old in session.scalars(stored.order_by(JobCheckpointRow.step.desc()).offset(KEPT_STATES)):
                superfluous.append(old.artifact)
                old.artifact = None
            return [path for path in superfluous if path is not None and path != artifact]

    def with_state(self, job_id: str) -> list[JobCheckpoint]:
        """Those that a training can go on from, newest first."""
        query = select(JobCheckpointRow).where(JobCheckpointRow.job == job_id, JobCheckpointRow.artifact.is_not(None))
        with self._database.session() as session:
            return [_to_checkpoint(row) for row in session.scalars(query.order_by(JobCheckpointRow.step.desc()))]

    def page(self, job_id: str, *, after: str | None = None, limit: int = 10) -> list[JobCheckpoint]:
        """Newest first, those older than the checkpoint `after`."""
        query = select(JobCheckpointRow).where(JobCheckpointRow.job == job_id)
        with self._database.session() as session:
            if after is not None:
                cursor = select(JobCheckpointRow.step).where(JobCheckpointRow.id == after).scalar_subquery()
                query = query.where(JobCheckpointRow.step < cursor)
            rows = session.scalars(query.order_by(JobCheckpointRow.step.desc()).limit(limit))
            return [_to_checkpoint(row) for row in rows]

    def ended_with_states(self) -> list[str]:
        """Jobs that have ended and whose states nobody has deleted yet."""
        query = (
            select(JobCheckpointRow.job)
            .join(JobRow, JobRow.id == JobCheckpointRow.job)
            .where(JobRow.status.in_(FINAL_STATUSES), JobCheckpointRow.artifact.is_not(None))
            .distinct()
        )
        with self._database.session() as session:
            return list(session.scalars(query))

    def forget_states(self, job_id: str) -> None:
        """The states of a job that has ended are deleted; its checkpoints stay listed."""
        with self._database.session() as session:
            session.execute(update(JobCheckpointRow).where(JobCheckpointRow.job == job_id).values(artifact=None))


def _to_checkpoint(row: JobCheckpointRow) -> JobCheckpoint:
    return JobCheckpoint.model_validate(row, from_attributes=True)
