"""The sweeper: cares for jobs that no worker holds and no message speaks of."""

import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from contracts.jobs import RetryPolicy
from store.database import Database
from store.job_queue import JobQueue
from store.jobs import JobRepository, WaitingJob

QUEUED_FOR_S = 30.0
REPEAT_S = 600.0
"""A job that merely waits behind others looks like a lost one. It gets a second message once in this time, not at
every sweep; the lease makes the second message harmless."""
WORKER_GONE = "The worker that ran the job is gone: it was killed, or ran out of memory."

log = structlog.get_logger(__name__)


class Sweeper:
    """Takes jobs back from dead workers, and enqueues those whose pause is over or whose message was lost.

    A killed worker's job is taken up when its lease has run out, long before Redis would deliver its message again.
    Every worker sweeps; two small queries each time. Raises nothing: a store that is away is tried at the next sweep.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._queue, self._policy, self._clock = database, queue, policy, clock
        self._jobs = JobRepository(database)
        self._enqueued_at: dict[WaitingJob, float] = {}

    def sweep(self) -> None:
        try:
            self._take_back()
            self._enqueue_waiting()
        except (SQLAlchemyError, OperationalError) as error:
            log.warning("sweep missed", reason=type(error).__name__)
        finally:
            # The worker forks its children from this process: an open connection must not be shared with them.
            self._database.dispose()

    def _take_back(self) -> None:
        for job_id in self._jobs.with_dead_worker():
            status = self._jobs.take_back(job_id, self._policy, reason=WORKER_GONE)
            if status is not None:
                log.info("job taken back from a dead worker", job=job_id, status=status)

    def _enqueue_waiting(self) -> None:
        now = self._clock()
        recent = {job: at for job, at in self._enqueued_at.items() if now - at < REPEAT_S}
        self._enqueued_at = recent
        for job in self._jobs.waiting(queued_for_s=QUEUED_FOR_S):
            if job in recent:
                continue
            self._queue.enqueue(job.id, queue=job.queue)
            recent[job] = now
            log.info("job enqueued again", job=job.id, fence=job.fence)
