"""A runner on real parts, with families that a test registers."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from sqlalchemy import update

from contracts.invalidation import Invalidation
from contracts.jobs import Job, JobQueueName, RetryPolicy
from contracts.settings import EvaluationSettings
from store.artifacts import ArtifactStore
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.files import FileRepository
from store.job_checkpoints import CheckpointRepository
from store.job_queue import JobQueue, create_celery
from store.job_usage import JobUsage
from store.jobs import JobRepository
from store.keys import KeyRepository
from store.models import ModelRepository
from store.tables import JobRow
from tests.gateway_process import PEPPER
from workers.bench import Bench
from workers.engines import Engines
from workers.gateway import GatewayAccess
from workers.registry import JobFamilies, JobFamily, job_family
from workers.run import JobResources, JobResult, JobRun, Room
from workers.runner import JobRunner, RunnerRules

POLL_S = 0.05
RETRY = RetryPolicy(max_attempts=3, first_pause_s=30, longest_pause_s=600)


class CountSpec(BaseModel):
    """What the tests' own jobs are asked to do."""

    to: int = 1


class Workshop:
    """`run(job, function)` runs a job whose family is `function`; `start` does so in a thread."""

    def __init__(
        self, database: Database, artifacts: ArtifactStore, redis_url: str, threads: ThreadPoolExecutor, scratch: Path
    ) -> None:
        self.database, self.jobs, self.models = database, JobRepository(database), ModelRepository(database)
        self.artifacts = artifacts
        self.announced: list[Invalidation] = []
        self.spans = InMemorySpanExporter()
        self.told: list[str] = []
        self.must_stop = False
        self.process_ended = threading.Event()
        self.jobs_per_tenant: int | None = None
        self.quota_bytes: int | None = None
        self.evaluation = EvaluationSettings()
        self.gateway_url, self.knows_pepper = "http://127.0.0.1:9/v1", True
        self.bench: Bench | None = None
        self.scratch = scratch
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self._queue = JobQueue(create_celery(redis_url))
        self._threads = threads
        self._redis_url = redis_url

    def create_job(
        self,
        family: str = "test.count",
        *,
        tenant: str = "acme",
        queue: JobQueueName = "cpu",
        priority: int = 0,
        trace_context: dict[str, str] | None = None,
        **spec: Any,
    ) -> Job:
        return self.jobs.create(
            family=family,
            tenant=tenant,
            spec=spec,
            queue=queue,
            priority=priority,
            trace_context=trace_context or {},
        )

    def make_due(self, job: Job) -> None:
        """As if the job's pause were over."""
        with self.database.session() as session:
            session.execute(update(JobRow).where(JobRow.id == job.id).values(not_before=None))

    def run(
        self, job: Job, function: Callable[[CountSpec, JobRun], JobResult] | JobFamily, *, lease_s: float = 30.0
    ) -> None:
        family = function if isinstance(function, JobFamily) else job_family("test.count")(function)
        runner = JobRunner(
            jobs=self.jobs,
            queue=self._queue,
            families=JobFamilies([family]),
            resources=JobResources(
                self.models,
                self.jobs,
                EvalRepository(self.database),
                EvalScheduleRepository(self.database),
                FileRepository(self.database),
                self.artifacts,
                Engines(self._redis_url),
                GatewayAccess(self.gateway_url, KeyRepository(self.database, PEPPER) if self.knows_pepper else None),
                CheckpointRepository(self.database),
                Room(JobUsage(self.database), self.quota_bytes, None),
                self.evaluation,
                threads=None,
                bench=self.bench,
            ),
            announce=self.announced.append,
            told=self.told.append,
            tracer=self._provider.get_tracer("test"),
            must_stop=lambda: self.must_stop,
            end_process=self.process_ended.set,
            rules=RunnerRules(
                lease_s=lease_s,
                poll_s=POLL_S,
                retry=RETRY,
                jobs_per_tenant=self.jobs_per_tenant,
                scratch=self.scratch,
            ),
        )
        runner.run_job(job.id)

    def start(self, job: Job, function: Callable[[CountSpec, JobRun], JobResult] | JobFamily) -> Any:
        return self._threads.submit(self.run, job, function)

    def now(self, job: Job) -> Job:
        found = self.jobs.get(job.id)
        assert found is not None
        return found

    def messages(self, job: Job) -> list[str]:
        return [event.message for event in reversed(self.jobs.events(job.id, limit=100))]


@pytest.fixture
def workshop(database: Database, artifacts: ArtifactStore, redis_url: str, tmp_path: Path) -> Iterator[Workshop]:
    with ThreadPoolExecutor(4) as threads:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        yield Workshop(database, artifacts, redis_url, threads, scratch)
