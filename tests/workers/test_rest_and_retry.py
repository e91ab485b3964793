"""What happens to a job that rests, breaks down, or waits behind others."""

import errno
import threading
import time
from collections.abc import Callable

import pytest
from redis import Redis
from sqlalchemy import text

from contracts.jobs import Job, NewJobEvent
from store.artifacts import ArtifactsUnavailable
from store.database import Database
from store.jobs import JobRepository
from tests.workers.conftest import RETRY, CountSpec, Workshop
from workers.journal import Journal
from workers.run import JobResult, JobRun

SOON_S = 3.0


class AwayDatabase(JobRepository):
    """Real, but for a while each write of events fails as it does when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._real = database
        self.away = False

    def add_events(self, *arguments, **options) -> None:
        if self.away:
            with self._real.session() as session:
                session.execute(text("SELECT * FROM a_table_that_is_gone"))
        super().add_events(*arguments, **options)


def done(_spec: CountSpec, _run: JobRun) -> JobResult:
    return JobResult("Done.")


def work_until_stopped(began: threading.Event) -> Callable[[CountSpec, JobRun], JobResult]:
    def work(_spec: CountSpec, run: JobRun) -> JobResult:
        began.set()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            run.check()
            time.sleep(0.01)
        raise AssertionError("nobody stopped me")

    return work


def test_progress_that_cannot_be_written_is_kept_and_written_in_order_later(database: Database) -> None:
    jobs = AwayDatabase(database)
    job = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    _, fence = jobs.acquire(job.id, lease_s=30) or (None, 0)
    told: list[str] = []
    journal = Journal(jobs, job.id, fence, told.append)
    jobs.away = True
    for step in (1, 2):
        journal.tell(NewJobEvent(message=f"step {step}", created_at=step), estimated_finish_at=100 + step)
    assert (len(jobs.events(job.id)), told) == (1, [])
    jobs.away = False
    journal.tell(NewJobEvent(message="step 3", created_at=3))
    assert [event.message for event in jobs.events(job.id, limit=3)] == ["step 3", "step 2", "step 1"]
    now = jobs.get(job.id)
    assert now is not None
    assert (now.estimated_finish_at, told) == (102, [job.id])


def test_a_job_goes_on_while_its_progress_cannot_be_written(workshop: Workshop, database: Database) -> None:
    jobs = workshop.jobs = AwayDatabase(database)

    def work(_spec: CountSpec, run: JobRun) -> JobResult:
        jobs.away = True
        run.metrics("step 1", {"step": 1})
        threading.Timer(0.7, lambda: setattr(jobs, "away", False)).start()
        return JobResult("Done.")

    job = workshop.create_job()
    workshop.run(job, work)
    assert workshop.now(job).status == "succeeded"
    assert workshop.messages(job)[-2:] == ["step 1", "Done."]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionResetError("secret-host:9000"), "disk or the network"),
        (ArtifactsUnavailable("secret-host:9000"), "artifact store could not be reached"),
        (OSError(errno.ENOSPC, "secret-path"), "no room left on a disk"),
    ],
)
def test_an_attempt_that_breaks_down_is_made_again_after_a_pause(workshop: Workshop, error: OSError, says: str) -> None:
    def break_down_once(_spec: CountSpec, run: JobRun) -> JobResult:
        if run.fence == 1:
            raise error
        return JobResult("Done.")

    job = workshop.create_job()
    workshop.run(job, break_down_once)
    assert workshop.now(job).status == "queued"
    told = workshop.messages(job)[-1]
    assert says in told
    assert "Trying again in 30 s (attempt 2 of 3)" in told
    assert "secret" not in told
    workshop.run(job, break_down_once)
    assert workshop.now(job).status == "queued"
    workshop.make_due(job)
    workshop.run(job, break_down_once)
    assert workshop.now(job).status == "succeeded"


def test_pauses_grow_and_come_to_an_end(workshop: Workshop) -> None:
    def break_down(_spec: CountSpec, _run: JobRun) -> JobResult:
        raise TimeoutError

    job = workshop.create_job()
    for _ in range(RETRY.max_attempts):
        workshop.make_due(job)
        workshop.run(job, break_down)
    ended = workshop.now(job)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "too_many_attempts"
    assert "disk or the network" in ended.error.message
    pauses = [message.split(" s (")[0].split()[-1] for message in workshop.messages(job) if "Trying again" in message]
    assert pauses == ["30", "60"]


def test_a_checkpoint_is_progress_and_starts_the_count_of_attempts_anew(workshop: Workshop) -> None:
    def get_further_then_break_down(_spec: CountSpec, run: JobRun) -> JobResult:
        folder = run.scratch / "state"
        folder.mkdir()
        (folder / "weights").write_text(str(run.fence))
        run.save_checkpoint(folder, step=run.fence, metrics={})
        raise TimeoutError

    job = workshop.create_job()
    for _ in range(2 * RETRY.max_attempts):
        workshop.make_due(job)
        workshop.run(job, get_further_then_break_down)
    assert workshop.now(job).status == "queued"


def test_a_paused_job_frees_its_worker_and_goes_on_when_resumed(workshop: Workshop) -> None:
    began, job = threading.Event(), workshop.create_job()
    running = workshop.start(job, work_until_stopped(began))
    assert began.wait(SOON_S)
    workshop.jobs.pause(job.id, tenant="acme")
    running.result(SOON_S)
    workshop.run(job, done)
    assert workshop.now(job).status == "paused"

    workshop.jobs.resume(job.id, tenant="acme")
    workshop.run(job, done)
    assert workshop.now(job).status == "succeeded"


def test_a_job_that_is_resumed_before_its_worker_noticed_the_pause_is_queued_again(
    workshop: Workshop, redis_url: str
) -> None:
    began, job = threading.Event(), workshop.create_job()

    def save_slowly(_spec: CountSpec, run: JobRun) -> JobResult:
        began.set()
        while not run.must_rest:
            time.sleep(0.01)
        run.check(may_save=True)
        workshop.jobs.resume(run.job.id, tenant="acme")
        run.check()
        raise AssertionError("nobody stopped me")

    running = workshop.start(job, save_slowly)
    assert began.wait(SOON_S)
    workshop.jobs.pause(job.id, tenant="acme")
    running.result(SOON_S)
    assert workshop.now(job).status == "queued"
    with Redis.from_url(redis_url) as redis:
        assert redis.llen("cpu") == 1
    workshop.run(job, done)
    assert workshop.now(job).status == "succeeded"


def test_a_cancelled_job_that_does_not_notice_has_its_process_ended_in_two_seconds(workshop: Workshop) -> None:
    began, job = threading.Event(), workshop.create_job()

    def notice_nothing(_spec: CountSpec, _run: JobRun) -> JobResult:
        began.set()
        assert workshop.process_ended.wait(5)
        return JobResult("Done.")

    running = workshop.start(job, notice_nothing)
    assert began.wait(SOON_S)
    cancelled_at = time.monotonic()
    workshop.jobs.cancel(job.id, tenant="acme")
    assert workshop.process_ended.wait(2)
    assert time.monotonic() - cancelled_at < 2
    running.result(SOON_S)
    assert workshop.now(job).status == "cancelled"


def test_a_job_that_stops_in_time_keeps_its_process(workshop: Workshop) -> None:
    began, job = threading.Event(), workshop.create_job()
    running = workshop.start(job, work_until_stopped(began))
    assert began.wait(SOON_S)
    workshop.jobs.cancel(job.id, tenant="acme")
    running.result(SOON_S)
    assert not workshop.process_ended.wait(0.6)


def test_the_most_urgent_job_of_the_queue_runs_whatever_the_message_says(workshop: Workshop) -> None:
    ran: list[str] = []

    def note(_spec: CountSpec, run: JobRun) -> JobResult:
        ran.append(run.job.id)
        return JobResult("Done.")

    first, second = workshop.create_job(), workshop.create_job()
    urgent, elsewhere = workshop.create_job(priority=-1), workshop.create_job(priority=-2, queue="gpu")
    for job in (first, second, urgent):
        workshop.run(job, note)
    assert ran[0] == urgent.id
    assert sorted(ran[1:]) == sorted([first.id, second.id])
    assert workshop.now(elsewhere).status == "queued"
    workshop.run(elsewhere, note)
    assert workshop.now(elsewhere).status == "succeeded"


def test_a_tenant_has_only_so_many_jobs_running_and_the_next_is_woken(workshop: Workshop, redis_url: str) -> None:
    workshop.jobs_per_tenant = 1
    began = threading.Event()
    mine = workshop.create_job()
    running = workshop.start(mine, work_until_stopped(began))
    assert began.wait(SOON_S)
    also_mine, theirs = workshop.create_job(), workshop.create_job(tenant="rival")
    workshop.run(also_mine, done)
    workshop.run(also_mine, done)
    assert workshop.now(theirs).status == "succeeded"
    assert workshop.now(also_mine).status == "queued"
    with Redis.from_url(redis_url) as redis:
        redis.delete("cpu")
        workshop.jobs.cancel(mine.id, tenant="acme")
        running.result(SOON_S)
        assert redis.llen("cpu") == 1
    workshop.run(also_mine, done)
    assert workshop.now(also_mine).status == "succeeded"


def test_of_two_workers_that_count_at_once_one_finds_room(workshop: Workshop) -> None:
    workshop.jobs_per_tenant = 1
    most, running_now, guard = [0], [0], threading.Lock()

    def note(_spec: CountSpec, _run: JobRun) -> JobResult:
        with guard:
            running_now[0] += 1
            most[0] = max(most[0], running_now[0])
        time.sleep(0.2)
        with guard:
            running_now[0] -= 1
        return JobResult("Done.")

    jobs: list[Job] = [workshop.create_job() for _ in range(4)]
    for running in [workshop.start(job, note) for job in jobs]:
        running.result(SOON_S)
    assert most == [1]
