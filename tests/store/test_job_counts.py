from store.database import Database
from store.job_counts import JobCounts
from store.jobs import JobRepository


def test_jobs_that_have_not_ended_are_counted_by_queue_and_status(database: Database) -> None:
    jobs, counts = JobRepository(database), JobCounts(database)
    before = counts.by_queue_and_status()
    assert set(before.values()) == {0}
    assert {queue for queue, _ in before} == {"cpu", "gpu"}

    waits, runs, ended, needs_gpu = (
        jobs.create(family="f", tenant="acme", spec={}, trace_context={}, queue=queue)
        for queue in ("cpu", "cpu", "cpu", "gpu")
    )
    assert jobs.acquire(runs.id, lease_s=60) is not None
    jobs.cancel(ended.id, tenant="acme")
    after = counts.by_queue_and_status()
    assert {place: count for place, count in after.items() if count} == {
        (waits.queue, "queued"): 1,
        (runs.queue, "running"): 1,
        (needs_gpu.queue, "queued"): 1,
    }
    assert after.keys() == before.keys()
