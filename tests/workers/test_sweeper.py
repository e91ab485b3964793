import time

import pytest
from redis import Redis
from sqlalchemy import update

from contracts.jobs import Job, RetryPolicy
from store.database import Database
from store.job_queue import JobQueue, create_celery
from store.job_rows import LeaseLost
from store.jobs import JobRepository
from store.tables import JobRow
from tests.processes import free_port
from workers.sweeper import REPEAT_S, Sweeper

POLICY = RetryPolicy(max_attempts=3, first_pause_s=0, longest_pause_s=0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def job(jobs: JobRepository) -> Job:
    return jobs.create(family="f", tenant="acme", spec={}, trace_context={})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweeper(database: Database, redis_url: str, clock: Clock) -> Sweeper:
    return Sweeper(database, JobQueue(create_celery(redis_url)), POLICY, clock=clock)


def messages(redis_url: str, queue: str = "cpu") -> int:
    with Redis.from_url(redis_url) as redis:
        return redis.llen(queue)


def change(database: Database, job: Job, **values: object) -> None:
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(**values))


def test_a_dead_workers_job_is_enqueued_when_its_lease_has_run_out(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    jobs.acquire(job.id, lease_s=60)
    sweeper.sweep()
    assert messages(redis_url) == 0
    change(database, job, lease_expires_at=int(time.time()) - 1)
    sweeper.sweep()
    assert messages(redis_url) == 1


def test_a_job_whose_message_was_lost_is_enqueued_and_a_fresh_one_is_left_alone(
    database: Database, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    sweeper.sweep()
    assert messages(redis_url) == 0
    change(database, job, created_at=int(time.time()) - 31)
    sweeper.sweep()
    assert messages(redis_url) == 1


def test_a_job_that_only_waits_gets_one_more_message_and_not_one_each_sweep(
    database: Database, job: Job, sweeper: Sweeper, clock: Clock, redis_url: str
) -> None:
    change(database, job, created_at=int(time.time()) - 31)
    for _ in range(5):
        sweeper.sweep()
    assert messages(redis_url) == 1
    clock.now_s += REPEAT_S
    sweeper.sweep()
    assert messages(redis_url) == 2


def test_a_job_whose_worker_dies_again_is_enqueued_again_at_once(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    for died in (1, 2):
        jobs.acquire(job.id, lease_s=60)
        change(database, job, lease_expires_at=int(time.time()) - 1)
        sweeper.sweep()
        assert messages(redis_url) == died


def test_a_job_that_kills_every_worker_is_given_up(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper
) -> None:
    for _ in range(POLICY.max_attempts):
        assert jobs.acquire(job.id, lease_s=60) is not None
        change(database, job, lease_expires_at=int(time.time()) - 1)
        sweeper.sweep()
    ended = jobs.get(job.id)
    assert ended is not None
    assert ended.error is not None
    assert ended.error.code == "too_many_attempts"
    assert "ran out of memory" in jobs.events(job.id)[0].message


def test_a_worker_that_was_only_slow_finds_its_lease_gone(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper
) -> None:
    taken = jobs.acquire(job.id, lease_s=60)
    assert taken is not None
    change(database, job, lease_expires_at=int(time.time()) - 1)
    sweeper.sweep()
    with pytest.raises(LeaseLost):
        jobs.renew(job.id, taken[1], lease_s=60)


def test_a_job_goes_back_to_its_own_queue(database: Database, job: Job, sweeper: Sweeper, redis_url: str) -> None:
    change(database, job, created_at=int(time.time()) - 31, queue="gpu")
    sweeper.sweep()
    assert (messages(redis_url), messages(redis_url, "gpu")) == (0, 1)


def test_a_job_between_two_attempts_is_enqueued_when_its_pause_is_over(
    database: Database, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    change(database, job, not_before=int(time.time()) + 60)
    sweeper.sweep()
    assert messages(redis_url) == 0
    change(database, job, not_before=int(time.time()) - 1)
    sweeper.sweep()
    assert messages(redis_url) == 1


def test_a_paused_job_whose_worker_died_stays_paused(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    jobs.acquire(job.id, lease_s=60)
    jobs.pause(job.id, tenant="acme")
    change(database, job, lease_expires_at=int(time.time()) - 1)
    sweeper.sweep()
    paused = jobs.get(job.id)
    assert paused is not None
    assert (paused.status, messages(redis_url)) == ("paused", 0)
    jobs.resume(job.id, tenant="acme")
    assert jobs.acquire(job.id, lease_s=60) is not None


def test_a_job_that_has_ended_is_left_alone(
    database: Database, jobs: JobRepository, job: Job, sweeper: Sweeper, redis_url: str
) -> None:
    change(database, job, created_at=int(time.time()) - 31)
    jobs.cancel(job.id, tenant="acme")
    sweeper.sweep()
    assert messages(redis_url) == 0


def test_a_broker_that_is_away_does_not_end_the_worker(database: Database, jobs: JobRepository, job: Job) -> None:
    change(database, job, created_at=int(time.time()) - 31)
    Sweeper(database, JobQueue(create_celery(f"redis://127.0.0.1:{free_port()}/0")), POLICY).sweep()
    unchanged = jobs.get(job.id)
    assert unchanged is not None
    assert unchanged.status == "queued"
