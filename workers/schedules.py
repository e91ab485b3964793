"""The beat of scheduled evaluations: makes the runs that are due."""

import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from contracts.jobs import JobQueueName
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.job_queue import JobQueue

log = structlog.get_logger(__name__)


class ScheduleBeat:
    """Every worker has one (decision 022). One small query each time, more where something is due. Raises nothing: a
    store that is away is tried at the next beat, and a run whose message is not sent is the sweeper's to enqueue.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        *,
        default_queue: JobQueueName,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._queue, self._default_queue, self._clock = database, queue, default_queue, clock
        self._schedules = EvalScheduleRepository(database)

    def beat(self) -> None:
        try:
            for due in self._schedules.make_due(int(self._clock()), queue=self._default_queue):
                log.info("scheduled run made", schedule=due.schedule, run=due.run, job=due.job)
                self._queue.enqueue(due.job, queue=due.queue)
        except (SQLAlchemyError, OperationalError) as error:
            log.warning("schedules not looked at", reason=type(error).__name__)
        finally:
            # The worker forks its children from this process: an open connection must not be shared with them.
            self._database.dispose()
