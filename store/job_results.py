"""What jobs found out: the figures among their events."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from store.database import Database
from store.tables import JobEventRow


class JobResults:
    def __init__(self, database: Database) -> None:
        self._database = database

    def told(self, jobs: Iterable[str], *, beginning: str) -> dict[str, list[dict[str, Any]]]:
        """By job, the data of its metrics events whose message begins so, oldest first. One query."""
        query = select(JobEventRow.job, JobEventRow.data).where(
            JobEventRow.job.in_(list(jobs)),
            JobEventRow.type == "metrics",
            JobEventRow.message.startswith(beginning, autoescape=True),
        )
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        with self._database.session() as session:
            for job, data in session.execute(query.order_by(JobEventRow.sequence)):
                found[job].append(data)
        return found
