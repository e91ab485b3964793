"""What a job tells while it runs: events in SQL, in their order, without stopping for a database that is away."""

from collections.abc import Callable
from typing import Literal

import structlog

from contracts.jobs import NewJobEvent
from store.jobs import JobRepository
from workers.transient import DATABASE_ERRORS

log = structlog.get_logger(__name__)


class Journal:
    """One small transaction an event. While the database is away events are kept, and written before the next one.

    `told` is called after each write. Raises LeaseLost. Used by one thread.
    """

    def __init__(self, jobs: JobRepository, job_id: str, fence: int, told: Callable[[str], None]) -> None:
        self._jobs, self._job_id, self._fence, self._told = jobs, job_id, fence, told
        self._unwritten: list[NewJobEvent] = []
        self._estimated_finish_at: int | None = None

    def tell(self, event: NewJobEvent, *, estimated_finish_at: int | None = None) -> None:
        self._unwritten.append(event)
        self._estimated_finish_at = estimated_finish_at or self._estimated_finish_at
        try:
            self.write()
        except DATABASE_ERRORS as error:
            log.warning("event kept until the database is back", reason=type(error).__name__)

    def set_working(self, status: Literal["validating_files", "running"]) -> None:
        """Best effort: what a job does now is no loss where it is not told."""
        try:
            self._jobs.set_working(self._job_id, self._fence, status)
            self._told(self._job_id)
        except DATABASE_ERRORS as error:
            log.warning("status not written", reason=type(error).__name__)

    def write(self) -> None:
        """Writes what is kept. Raises SQLAlchemy's errors too."""
        if not self._unwritten:
            return
        self._jobs.add_events(self._job_id, self._fence, self._unwritten, estimated_finish_at=self._estimated_finish_at)
        self._unwritten = []
        self._told(self._job_id)
