import time

import pytest
from sqlalchemy import text

from contracts.jobs import Job
from store.database import Database
from store.job_rows import LeaseLost
from store.jobs import JobRepository
from workers.heartbeat import Heartbeat

SOON_S = 3.0


class BlindJobRepository(JobRepository):
    """Real, but the database fails in the one moment between a refused renewal and the look at why."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._blind = database

    def get(self, job_id: str) -> Job | None:
        with self._blind.session() as session:
            session.execute(text("SELECT * FROM a_table_that_is_gone"))
        raise AssertionError(job_id)


def test_a_job_stops_even_if_why_its_lease_was_lost_cannot_be_read(database: Database) -> None:
    jobs = BlindJobRepository(database)
    job = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    taken = jobs.acquire(job.id, lease_s=30)
    assert taken is not None
    with Heartbeat(
        jobs,
        job.id,
        taken[1],
        lease_s=30,
        interval_s=0.05,
        must_stop=lambda: False,
        end_process=lambda: None,
    ) as heartbeat:
        heartbeat.check()
        jobs.cancel(job.id, tenant="acme")
        with pytest.raises(LeaseLost):
            _check_until(heartbeat, time.monotonic() + SOON_S)


def _check_until(heartbeat: Heartbeat, deadline: float) -> None:
    while time.monotonic() < deadline:
        heartbeat.check()
        time.sleep(0.01)
