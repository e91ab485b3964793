import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Barrier

import pytest
from sqlalchemy import event, update
from sqlalchemy.orm import Session

from contracts.jobs import Job, JobError, RetryPolicy
from store.database import Database
from store.job_rows import LeaseLost
from store.jobs import JobRepository
from store.tables import JobRow


@pytest.fixture
def jobs(database: Database) -> JobRepository:
    return JobRepository(database)


@pytest.fixture
def job(jobs: JobRepository) -> Job:
    trace = {"traceparent": "00-a"}
    return jobs.create(family="finetune.supervised", tenant="acme", spec={"seed": 1}, trace_context=trace)


def acquire(jobs: JobRepository, job: Job, lease_s: float = 60) -> int:
    taken = jobs.acquire(job.id, lease_s=lease_s)
    assert taken is not None
    return taken[1]


def let_lease_run_out(database: Database, job: Job) -> None:
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(lease_expires_at=int(time.time()) - 1))


def test_a_new_job_is_queued_and_says_so(jobs: JobRepository, job: Job) -> None:
    assert jobs.get(job.id) == job
    assert job.status == "queued"
    assert job.trace_context == {"traceparent": "00-a"}
    assert [event.message for event in jobs.events(job.id)] == ["Created the job and queued it."]


def test_a_job_that_nobody_made_is_none(jobs: JobRepository) -> None:
    assert jobs.get("ftjob-unknown") is None
    assert jobs.acquire("ftjob-unknown", lease_s=1) is None
    assert jobs.cancel("ftjob-unknown", tenant="acme") is None


def test_one_worker_at_a_time_holds_a_job(jobs: JobRepository, job: Job) -> None:
    acquire(jobs, job)
    assert jobs.acquire(job.id, lease_s=60) is None
    held = jobs.get(job.id)
    assert held is not None
    assert held.status == "running"
    assert held.started_at is not None


def test_of_two_threads_that_race_for_a_job_one_gets_it(jobs: JobRepository) -> None:
    for _ in range(20):
        job = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
        start = Barrier(4)

        def race(job: Job = job, start: Barrier = start) -> tuple[Job, int] | None:
            start.wait()
            return jobs.acquire(job.id, lease_s=60)

        with ThreadPoolExecutor(4) as threads:
            won = [future.result() for future in [threads.submit(race) for _ in range(4)]]
        assert [taken[1] for taken in won if taken is not None] == [1]


def test_a_lease_that_ran_out_passes_on_with_a_higher_fence(database: Database, jobs: JobRepository, job: Job) -> None:
    first = acquire(jobs, job)
    let_lease_run_out(database, job)
    assert acquire(jobs, job) > first


def test_a_renewed_lease_does_not_pass_on(database: Database, jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    let_lease_run_out(database, job)
    jobs.renew(job.id, fence, lease_s=60)
    assert jobs.acquire(job.id, lease_s=60) is None


def test_a_released_job_can_be_taken_at_once(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    jobs.release(job.id, fence)
    assert acquire(jobs, job) == fence + 1


def test_every_write_of_a_worker_that_lost_its_lease_is_refused(
    database: Database, jobs: JobRepository, job: Job
) -> None:
    stale = acquire(jobs, job)
    let_lease_run_out(database, job)
    fresh = acquire(jobs, job)
    for write in (
        lambda: jobs.renew(job.id, stale, lease_s=60),
        lambda: jobs.release(job.id, stale),
        lambda: jobs.add_event(job.id, stale, "still here"),
        lambda: jobs.finish(job.id, stale, "succeeded", message="done"),
    ):
        with pytest.raises(LeaseLost):
            write()
    jobs.add_event(job.id, fresh, "mine")
    assert jobs.events(job.id)[0].message == "mine"


def test_a_rival_cannot_slip_in_between_the_check_of_a_fence_and_the_write(
    database: Database, jobs: JobRepository, job: Job
) -> None:
    fence = acquire(jobs, job)
    let_lease_run_out(database, job)
    attempts: list[Future[tuple[Job, int] | None]] = []

    def attempt_in_between(*_: object) -> None:
        attempts.append(rival.submit(jobs.acquire, job.id, lease_s=60))
        wait(attempts, timeout=0.2)

    event.listen(Session, "before_flush", attempt_in_between, once=True)
    with ThreadPoolExecutor(1) as rival:
        jobs.finish(job.id, fence, "succeeded", message="done")
    assert attempts[0].result() is None


def test_a_cancelled_job_ends_and_its_worker_hears_of_it(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    cancelled = jobs.cancel(job.id, tenant="acme")
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    with pytest.raises(LeaseLost):
        jobs.renew(job.id, fence, lease_s=60)
    assert jobs.acquire(job.id, lease_s=60) is None


def test_another_tenant_cannot_cancel(jobs: JobRepository, job: Job) -> None:
    assert jobs.cancel(job.id, tenant="rival") is None
    unchanged = jobs.get(job.id)
    assert unchanged is not None
    assert unchanged.status == "queued"


def test_what_has_ended_stays_ended(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    jobs.finish(job.id, fence, "succeeded", message="done", result_model="ft:x", trained_tokens=12)
    jobs.cancel(job.id, tenant="acme")
    jobs.fail(job.id, JobError(code="x", message="too late"))
    ended = jobs.get(job.id)
    assert ended is not None
    assert (ended.status, ended.result_model, ended.trained_tokens) == ("succeeded", "ft:x", 12)
    assert [event.message for event in jobs.events(job.id)] == ["done", "Created the job and queued it."]


def test_a_failed_job_keeps_its_reason(jobs: JobRepository, job: Job) -> None:
    jobs.fail(job.id, JobError(code="queue_unavailable", message="The queue is away."))
    failed = jobs.get(job.id)
    assert failed is not None
    assert failed.status == "failed"
    assert failed.error == JobError(code="queue_unavailable", message="The queue is away.")
    assert jobs.events(job.id)[0].level == "error"


def test_events_page_newest_first(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    for step in range(5):
        jobs.add_event(job.id, fence, f"step {step}", type="metrics", data={"step": step})
    newest = jobs.events(job.id, limit=2)
    older = jobs.events(job.id, after=newest[-1].id, limit=2)
    assert [event.data["step"] for event in [*newest, *older]] == [4, 3, 2, 1]


def test_jobs_page_newest_first_and_by_tenant(jobs: JobRepository) -> None:
    made = {jobs.create(family="f", tenant="acme", spec={}, trace_context={}).id for _ in range(5)}
    jobs.create(family="f", tenant="rival", spec={}, trace_context={})
    seen: list[str] = []
    while page := jobs.page(tenant="acme", after=seen[-1] if seen else None, limit=2):
        seen += [job.id for job in page]
    assert len(seen) == 5
    assert set(seen) == made


def test_of_threads_that_race_for_a_tenants_jobs_only_its_share_get_one(jobs: JobRepository) -> None:
    for _ in range(5):
        mine = [jobs.create(family="f", tenant="acme", spec={}, trace_context={}) for _ in range(4)]
        theirs = jobs.create(family="f", tenant="rival", spec={}, trace_context={})
        start = Barrier(4)

        def race(job: Job, start: Barrier = start) -> tuple[Job, int] | None:
            start.wait()
            return jobs.acquire(job.id, lease_s=60, tenant_limit=2)

        with ThreadPoolExecutor(4) as threads:
            won = list(threads.map(race, mine))
        assert sum(taken is not None for taken in won) == 2
        assert jobs.acquire(theirs.id, lease_s=60, tenant_limit=2) is not None
        for job in (*mine, theirs):
            jobs.cancel(job.id, tenant=job.tenant)


def test_the_next_job_is_the_most_urgent_then_that_of_the_least_busy_tenant(jobs: JobRepository) -> None:
    running = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    acquire(jobs, running)
    late = jobs.create(family="f", tenant="rival", spec={}, trace_context={}, priority=1)
    jobs.create(family="f", tenant="rival", spec={}, trace_context={}, queue="gpu")
    mine = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    theirs = jobs.create(family="f", tenant="rival", spec={}, trace_context={})
    assert jobs.next_waiting(running.id) == theirs.id
    acquire(jobs, theirs)
    jobs.cancel(theirs.id, tenant="rival")
    assert jobs.next_waiting(running.id) == mine.id
    assert jobs.next_waiting(running.id, tenant_limit=1) == late.id
    jobs.pause(late.id, tenant="rival")
    assert jobs.next_waiting(running.id, tenant_limit=1) is None


def test_a_job_that_is_tried_again_waits_for_its_time(database: Database, jobs: JobRepository, job: Job) -> None:
    policy = RetryPolicy(max_attempts=3, first_pause_s=100, longest_pause_s=150)
    assert jobs.retry(job.id, acquire(jobs, job), policy, reason="Away.") == "queued"
    assert jobs.acquire(job.id, lease_s=60) is None
    assert jobs.next_waiting(job.id) is None
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(not_before=int(time.time())))
    assert jobs.next_waiting(job.id) == job.id
    assert jobs.retry(job.id, acquire(jobs, job), policy, reason="Away.") == "queued"
    waits = jobs.get(job.id)
    assert waits is not None
    assert waits.not_before is not None
    assert waits.not_before - time.time() == pytest.approx(150, abs=5)


def test_a_dead_workers_job_is_taken_back_once(database: Database, jobs: JobRepository, job: Job) -> None:
    policy = RetryPolicy(max_attempts=3, first_pause_s=1, longest_pause_s=1)
    fence = acquire(jobs, job)
    assert jobs.with_dead_worker() == []
    let_lease_run_out(database, job)
    assert jobs.with_dead_worker() == [job.id]
    assert [jobs.take_back(job.id, policy, reason="Gone.") for _ in range(2)] == ["queued", None]
    with pytest.raises(LeaseLost):
        jobs.held_status(job.id, fence)


def test_events_are_read_on_from_a_number(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    for step in range(5):
        jobs.add_event(job.id, fence, f"step {step}")
    first = jobs.events_since(job.id, 0, limit=3)
    rest = jobs.events_since(job.id, first[-1].sequence, limit=10)
    assert [numbered.event.message for numbered in rest] == ["step 2", "step 3", "step 4"]
    assert jobs.sequence_of(job.id, first[-1].event.id) == first[-1].sequence
    assert jobs.sequence_of("ftjob-other", first[-1].event.id) is None


def test_a_paused_job_is_resumed_and_what_has_ended_is_neither(jobs: JobRepository, job: Job) -> None:
    fence = acquire(jobs, job)
    assert jobs.pause(job.id, tenant="rival") is None
    jobs.pause(job.id, tenant="acme")
    assert jobs.held_status(job.id, fence) == "paused"
    assert jobs.release(job.id, fence) == "paused"
    assert jobs.acquire(job.id, lease_s=60) is None
    assert jobs.resume(job.id, tenant="rival") is None
    jobs.resume(job.id, tenant="acme")
    jobs.finish(job.id, acquire(jobs, job), "succeeded", message="done")
    for act in (jobs.pause, jobs.resume):
        ended = act(job.id, tenant="acme")
        assert ended is not None
        assert ended.status == "succeeded"
