"""The sweeper: puts jobs back on the queue whose message was lost with a worker."""

import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from store.database import Database
from store.job_queue import JobQueue
from store.jobs import AbandonedJob, JobRepository

QUEUED_FOR_S = 30.0
REPEAT_S = 600.0
"""A job that merely waits behind others looks like a lost one. It gets a second message once in this time, not at
every sweep; the lease makes the second message harmless."""

log = structlog.get_logger(__name__)


class Sweeper:
    """Enqueues abandoned jobs again. A killed worker's job is taken up when its lease has run out, long before Redis
    would deliver its message again.

    Every worker sweeps; one small query each time. Raises nothing: a store that is away is tried at the next sweep.
    """

    def __init__(self, database: Database, queue: JobQueue, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._queue, self._clock = database, queue, clock
        self._jobs = JobRepository(database)
        self._enqueued_at: dict[AbandonedJob, float] = {}

    def sweep(self) -> None:
        try:
            self._sweep()
        except (SQLAlchemyError, OperationalError) as error:
            log.warning("sweep missed", reason=type(error).__name__)
        finally:
            # The worker forks its children from this process: an open connection must not be shared with them.
            self._database.dispose()

    def _sweep(self) -> None:
        now = self._clock()
        recent = {job: at for job, at in self._enqueued_at.items() if now - at < REPEAT_S}
        self._enqueued_at = recent
        for job in self._jobs.abandoned(queued_for_s=QUEUED_FOR_S):
            if job in recent:
                continue
            self._queue.enqueue(job.id)
            recent[job] = now
            log.info("job enqueued again", job=job.id, attempts=job.fence)
