"""The status of a job whose files are being checked."""

import time

from tests.workers.conftest import CountSpec, Workshop
from workers.run import JobResult, JobRun


def test_a_jobs_status_tells_that_its_files_are_checked_and_then_that_it_runs(workshop: Workshop) -> None:
    statuses = []

    def look(spec: CountSpec, run: JobRun) -> JobResult:
        statuses.append(workshop.now(run.job).status)
        with run.validating_files():
            statuses.append(workshop.now(run.job).status)
            run.check()
        statuses.append(workshop.now(run.job).status)
        return JobResult("Looked.")

    job = workshop.create_job()
    workshop.run(job, look)
    assert [*statuses, workshop.now(job).status] == ["running", "validating_files", "running", "succeeded"]


def test_a_job_that_is_paused_while_its_files_are_checked_stays_so(workshop: Workshop) -> None:
    def pause(spec: CountSpec, run: JobRun) -> JobResult:
        with run.validating_files():
            workshop.jobs.pause(run.job.id, tenant=run.job.tenant)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            run.check()
            time.sleep(0.01)
        return JobResult("Nobody stopped me.")

    job = workshop.create_job()
    workshop.run(job, pause)
    assert workshop.now(job).status == "paused"
