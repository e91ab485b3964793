"""Wires the worker. The only place that builds its parts.

The parent process receives messages, sweeps, and forks; each job runs in a child of its own that ends with it, so that
what a job leaves behind (memory, threads, a crash) does not reach the next one. The parent never imports torch.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, bootsteps, signals
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from redis.exceptions import RedisError

from contracts.invalidation import Invalidation
from contracts.jobs import RetryPolicy
from contracts.settings import Settings, WorkerSettings
from store.artifacts import ArtifactStore
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.files import FileRepository
from store.job_checkpoints import CheckpointRepository
from store.job_queue import RUN_JOB, JobQueue, create_celery
from store.job_usage import JobUsage
from store.jobs import JobRepository
from store.keys import KeyRepository, PepperTooShort
from store.models import ModelRepository
from store.news import publish_news
from store.redis_clients import async_redis
from telemetry.logs import configure_logs
from telemetry.traces import configure_traces
from workers.bench import Bench
from workers.engines import Engines
from workers.gateway import GatewayAccess
from workers.news import NewsThread
from workers.registry import JobFamilies
from workers.run import JobResources, Machines, Room
from workers.runner import JobRunner, RunnerRules
from workers.schedules import ScheduleBeat
from workers.scratch import remove_ownerless
from workers.stop import StopRequest
from workers.sweeper import Sweeper

SERVICE = "flywheel-worker"
TRACE_FLUSH_S = 5.0
TASK_OF_ALL = "together/task"

log = structlog.get_logger(__name__)


def create_worker(settings: Settings, families: JobFamilies) -> Celery:
    """The Celery app with its one task."""
    celery = create_celery(settings.broker_url)
    celery.conf.update(
        worker_concurrency=1,
        worker_max_tasks_per_child=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
    )
    stop = StopRequest()

    @celery.task(name=RUN_JOB)
    def run_job(job_id: str) -> None:
        _run_in_child(settings, families, stop, job_id)

    celery.steps["consumer"].add(_sweeping(settings, celery))
    signals.setup_logging.connect(_keep_our_logs, weak=False)
    signals.worker_process_init.connect(lambda **_: stop.follow(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: stop.ask(), weak=False)
    return celery


def _run_in_child(settings: Settings, families: JobFamilies, stop: StopRequest, job_id: str) -> None:
    # Connections and the exporter's thread do not survive a fork, so they are made here, after it.
    configure_logs(SERVICE, settings.telemetry.log_level)
    tracer = configure_traces(SERVICE, settings.telemetry.otlp_endpoint)
    database = Database(settings.database_url)
    scratch = scratch_parent(settings)
    remove_ownerless(scratch)
    news = NewsThread(settings.redis_url)
    runner = JobRunner(
        jobs=JobRepository(database),
        queue=JobQueue(create_celery(settings.broker_url)),
        families=families,
        resources=job_resources(settings, database),
        announce=lambda news: announce(settings.redis_url, news),
        told=lambda told: news.publish(Invalidation(kind="job", id=told)),
        tracer=tracer,
        must_stop=stop.asked,
        end_process=end_process,
        rules=RunnerRules(
            lease_s=settings.worker.lease_ttl_s,
            poll_s=settings.worker.cancel_poll_s,
            retry=_retry_policy(settings),
            jobs_per_tenant=settings.worker.jobs_per_tenant,
            scratch=scratch,
        ),
    )
    try:
        runner.run_job(job_id)
    finally:
        news.close()
        database.dispose()
        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.force_flush(int(TRACE_FLUSH_S * 1000))


def job_resources(settings: Settings, database: Database) -> JobResources:
    worker = settings.worker
    return JobResources(
        models=ModelRepository(database),
        jobs=JobRepository(database),
        evals=EvalRepository(database),
        schedules=EvalScheduleRepository(database),
        files=FileRepository(database),
        artifacts=ArtifactStore(settings.artifacts_url),
        engines=Engines(settings.redis_url),
        gateway=GatewayAccess(settings.gateway_url, _keys(settings, database)),
        checkpoints=CheckpointRepository(database),
        room=Room(JobUsage(database), worker.artifact_quota_bytes, worker.scratch_quota_bytes),
        evaluation=settings.evaluation,
        threads=worker.threads,
        processes=worker.processes,
        machines=machines_of(worker, scratch_parent(settings)),
        checkpoint_every_s=worker.checkpoint_every_s,
        bench=Bench.find(settings),
    )


def _keys(settings: Settings, database: Database) -> KeyRepository | None:
    try:
        return KeyRepository(database, settings.auth.pepper.get_secret_value())
    except PepperTooShort:
        return None


def announce(redis_url: str, news: Invalidation) -> None:
    """Publishes news. If Redis is away the news is lost, and engines find the model when they next look."""

    async def publish() -> None:
        async with async_redis(redis_url, socket_timeout=2, socket_connect_timeout=2) as redis:
            await publish_news(redis, news)

    try:
        asyncio.run(publish())
    except RedisError as error:
        log.warning("news not published", reason=type(error).__name__)


def _sweeping(settings: Settings, celery: Celery) -> type[bootsteps.StartStopStep]:
    class Sweeping(bootsteps.StartStopStep):
        """Sweeps and makes scheduled runs at the start, after each lost connection, and then regularly.

        It runs in the parent's event loop and not in a thread, because a fork while a thread holds a lock would leave
        the lock held in the child.
        """

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            database, queue = Database(settings.database_url), JobQueue(celery)
            self._sweeper = Sweeper(database, queue, _retry_policy(settings))
            self._schedules = ScheduleBeat(database, queue, default_queue=settings.worker.default_queue)
            self._timer: Any = None

        def start(self, consumer: Any) -> None:
            self._look()
            self._timer = consumer.timer.call_repeatedly(settings.worker.sweep_every_s, self._look)

        def _look(self) -> None:
            self._sweeper.sweep()
            self._schedules.beat()

        def stop(self, _consumer: Any) -> None:
            if self._timer is not None:
                self._timer.cancel()

    return Sweeping


def end_process() -> None:
    """Ends a child in the middle of whatever it computes. What it leaves behind the next job's child removes."""
    log.warning("process ended: its job was cancelled and did not notice")
    os._exit(0)


def _retry_policy(settings: Settings) -> RetryPolicy:
    worker = settings.worker
    return RetryPolicy(
        max_attempts=worker.max_attempts,
        first_pause_s=worker.retry_pause_s,
        longest_pause_s=worker.max_retry_pause_s,
    )


def machines_of(worker: WorkerSettings, scratch: Path) -> Machines | None:
    if worker.machines == 1:
        return None
    return Machines(worker.machines, worker.meeting_point, scratch / TASK_OF_ALL)


def scratch_parent(settings: Settings) -> Path:
    return settings.worker.scratch_dir or Path(tempfile.gettempdir())


def _keep_our_logs(**_: Any) -> None:
    """A receiver of `setup_logging` keeps Celery from setting up logs of its own."""
