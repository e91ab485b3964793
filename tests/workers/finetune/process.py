"""`python -m tests.workers.finetune.process JOB…`, in the worker's environment: runs jobs one after the other.

The runner, the families, the store and the artifacts are the real ones; only Celery is left out.
"""

import sys
from contextlib import suppress

from opentelemetry import trace

from contracts.jobs import RetryPolicy
from contracts.settings import Settings
from store.database import Database
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from telemetry.logs import configure_logs
from workers.celery_app import job_resources, scratch_parent
from workers.families import all_families
from workers.runner import JobRunner, RunnerRules


def run_jobs(settings: Settings, jobs: list[str]) -> None:
    database = Database(settings.database_url)
    runner = JobRunner(
        jobs=JobRepository(database),
        queue=JobQueue(create_celery(settings.redis_url)),
        families=all_families(),
        resources=job_resources(settings, database),
        announce=lambda _: None,
        tracer=trace.get_tracer("test"),
        must_stop=lambda: False,
        told=lambda _: None,
        end_process=lambda: None,
        rules=RunnerRules(
            lease_s=60,
            poll_s=0.5,
            retry=RetryPolicy(max_attempts=1, first_pause_s=1, longest_pause_s=1),
            jobs_per_tenant=None,
            scratch=scratch_parent(settings),
        ),
    )
    for job in jobs:
        runner.run_job(job)


if __name__ == "__main__":
    configure_logs("test", "INFO")
    with suppress(KeyboardInterrupt):
        run_jobs(Settings(), sys.argv[1:])
