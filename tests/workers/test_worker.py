"""The worker as a process: real Celery, real Valkey, real signals."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from contracts.fine_tuning import SupervisedSpec
from contracts.jobs import Job
from store.database import Database
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from tests.processes import Process, python
from tests.valkey_process import ValkeyProcess
from tests.workers.test_schedules import make_schedule

pytestmark = pytest.mark.timeout(240)

LEASE_S = 3
LONG_S = 60.0
START_S = 50.0


class Crew:
    """Starts workers and hands them jobs."""

    def __init__(self, database: Database, redis_url: str, folder: Path) -> None:
        self.jobs = JobRepository(database)
        self._queue = JobQueue(create_celery(redis_url))
        self._folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.workers: list[Process] = []
        self._environment = {
            "FLYWHEEL_REDIS_URL": redis_url,
            "FLYWHEEL_DATABASE_URL": f"sqlite:///{folder}/flywheel.db",
            "FLYWHEEL_ARTIFACTS_URL": f"file://{folder}/artifacts",
            "FLYWHEEL_WORKER__LEASE_TTL_S": str(LEASE_S),
            "FLYWHEEL_WORKER__SWEEP_EVERY_S": "1",
            "FLYWHEEL_WORKER__RETRY_PAUSE_S": "0.5",
            "FLYWHEEL_WORKER__SCRATCH_DIR": str(self.scratch),
        }

    def start_worker(self, module: str = "tests.workers.worker_process") -> Process:
        log = self._folder / f"worker-{len(self.workers)}.log"
        worker = Process(python("-m", module), log=log, environment=self._environment)
        self.workers.append(worker)
        worker.wait_until(lambda: " ready." in log.read_text(), timeout_s=START_S)
        return worker

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()

    def enqueue(self, family: str, spec: dict[str, object]) -> Job:
        job = self.jobs.create(family=family, tenant="acme", spec=spec, trace_context={})
        self.send(job)
        return job

    def send(self, job: Job) -> None:
        self._queue.enqueue(job.id)

    def wait_for(self, job: Job, done: Callable[[Job], bool], *, timeout_s: float = 30.0) -> Job:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            now = self.jobs.get(job.id)
            assert now is not None
            if done(now):
                return now
            time.sleep(0.05)
        raise AssertionError(f"{now}\n{self.workers[-1].log.read_text()[-3000:]}")

    def messages(self, job: Job) -> list[str]:
        return [event.message for event in reversed(self.jobs.events(job.id))]

    def begins(self, job: Job) -> Callable[[Job], bool]:
        return lambda _: any(message.startswith("torch imported") for message in self.messages(job))


@pytest.fixture
def crew(database: Database, redis_url: str, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(database, redis_url, tmp_path)
    yield crew
    crew.stop()


def has_ended(job: Job) -> bool:
    return job.finished_at is not None


def test_the_worker_runs_what_the_gateway_enqueues_and_stops_when_asked(crew: Crew) -> None:
    worker = crew.start_worker("workers")
    spec = SupervisedSpec(base_model="no-such-model", training_file="file-1", training_file_digest="sha256:x")
    ended = crew.wait_for(crew.enqueue("finetune.supervised", spec.model_dump(mode="json")), has_ended)
    assert ended.error is not None
    assert ended.error.code == "model_not_found"
    assert worker.stop() == 0


def test_a_worker_that_is_asked_to_stop_gives_its_job_to_another_one(crew: Crew) -> None:
    worker = crew.start_worker()
    job = crew.enqueue("test.sleep", {"seconds": LONG_S})
    crew.wait_for(job, crew.begins(job))
    assert worker.stop() == 0
    assert crew.wait_for(job, lambda now: now.status == "queued", timeout_s=2)

    crew.start_worker()
    assert crew.wait_for(job, has_ended).status == "succeeded"
    assert "torch imported: True" not in crew.messages(job)


def test_the_job_of_a_killed_worker_runs_again_when_its_lease_has_run_out(crew: Crew) -> None:
    worker = crew.start_worker()
    job = crew.enqueue("test.sleep", {"seconds": LONG_S})
    crew.wait_for(job, crew.begins(job))
    children = psutil.Process(worker.pid).children()
    worker.kill()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    time.sleep(LEASE_S + 1.1)

    crew.start_worker()
    assert crew.wait_for(job, has_ended).status == "succeeded"
    assert any(message.startswith("The worker that ran the job is gone") for message in crew.messages(job))


def test_a_cancelled_job_frees_its_worker_for_the_next(crew: Crew) -> None:
    crew.start_worker()
    job = crew.enqueue("test.sleep", {"seconds": LONG_S})
    crew.wait_for(job, crew.begins(job))
    crew.jobs.cancel(job.id, tenant="acme")
    following = crew.enqueue("test.sleep", {"seconds": 0})
    assert crew.wait_for(following, has_ended).status == "succeeded"


def test_a_job_deep_in_a_long_step_is_cancelled_in_two_seconds_and_leaves_nothing(crew: Crew) -> None:
    worker = crew.start_worker()
    job = crew.enqueue("test.block", {"seconds": LONG_S})
    crew.wait_for(job, crew.begins(job))
    (child,) = psutil.Process(worker.pid).children()
    crew.jobs.cancel(job.id, tenant="acme")
    crew.wait_for(job, lambda _: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout_s=2)

    following = crew.enqueue("test.sleep", {"seconds": 0})
    assert crew.wait_for(following, has_ended).status == "succeeded"
    crew.wait_for(following, lambda _: list(crew.scratch.iterdir()) == [], timeout_s=5)
    assert worker.stop() == 0


def test_two_workers_and_two_messages_run_a_job_once(crew: Crew) -> None:
    crew.start_worker()
    crew.start_worker()
    job = crew.enqueue("test.sleep", {"seconds": 1.5})
    for _ in range(3):
        crew.send(job)
    assert crew.wait_for(job, has_ended).status == "succeeded"
    assert [message for message in crew.messages(job) if message.startswith("The job started")] == ["The job started."]


def test_a_job_outlives_redis_and_the_worker_takes_the_next_when_it_is_back(database: Database, tmp_path: Path) -> None:
    valkey = ValkeyProcess(tmp_path / "valkey")
    crew = Crew(database, valkey.url, tmp_path)
    try:
        crew.start_worker()
        job = crew.enqueue("test.sleep", {"seconds": 5})
        crew.wait_for(job, crew.begins(job))
        valkey.stop()
        time.sleep(3)
        following = crew.jobs.create(family="test.sleep", tenant="acme", spec={"seconds": 0}, trace_context={})
        assert crew.wait_for(job, has_ended).status == "succeeded"
        valkey.start()
        crew.send(following)
        assert crew.wait_for(following, has_ended, timeout_s=60).status == "succeeded"
        assert [text for text in crew.messages(job) if text.startswith("The job started")] == ["The job started."]
    finally:
        crew.stop()
        valkey.stop()


def test_of_two_workers_one_makes_a_scheduled_run_and_one_runs_it(crew: Crew, database: Database) -> None:
    make_schedule(database, now=int(time.time()))
    crew.start_worker("workers")
    crew.start_worker("workers")
    (job,) = crew.jobs.page(tenant="acme")
    ended = crew.wait_for(job, has_ended)
    assert ended.error is not None
    assert ended.error.code == "no_gateway"
    time.sleep(2.1)  # both have looked again
    assert len(crew.jobs.page(tenant="acme")) == 1
