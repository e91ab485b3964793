"""How many jobs wait and run, for those who watch the queues."""

from typing import get_args

from sqlalchemy import func, select

from contracts.jobs import JobQueueName
from store.database import Database
from store.jobs import NOT_ENDED
from store.tables import JobRow


class JobCounts:
    """Counted in SQL, where the truth is; one query that reads only jobs which have not ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_queue_and_status(self) -> dict[tuple[str, str], int]:
        """Of every queue, every status in which a job has not ended, also where there is none."""
        counts: dict[tuple[str, str], int] = {
            (queue, status): 0 for queue in get_args(JobQueueName) for status in NOT_ENDED
        }
        query = select(JobRow.queue, JobRow.status, func.count()).where(JobRow.status.in_(NOT_ENDED))
        with self._database.session() as session:
            for queue, status, count in session.execute(query.group_by(JobRow.queue, JobRow.status)):
                counts[queue, status] = count
        return counts
