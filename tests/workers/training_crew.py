"""Real workers that train real adapters, for tests that disturb them and compare what comes out."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from cli.home import environment_python
from contracts.files import StoredFile
from contracts.fine_tuning import SupervisedHyperparameters, SupervisedSpec
from contracts.jobs import Job
from contracts.models import ModelCard
from store.artifacts import ArtifactStore
from store.database import Database
from store.files import FileRepository
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from store.models import ModelRepository
from store.tables import JobRow
from tests.processes import Process

TENANT = "acme"
START_S = 120.0


def worker_python(*arguments: str) -> list[str]:
    return [str(environment_python("worker")), *arguments]


class TrainingCrew:
    """Workers over one database, artifact store and broker. `base` is a folder of weights."""

    def __init__(self, folder: Path, redis_url: str, base: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self._redis_url = folder, redis_url
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        url = f"sqlite:///{folder}/flywheel.db"
        self._environment = {
            "FLYWHEEL_REDIS_URL": redis_url,
            "FLYWHEEL_DATABASE_URL": url,
            "FLYWHEEL_ARTIFACTS_URL": f"file://{folder}/artifacts",
            "FLYWHEEL_WORKER__LEASE_TTL_S": "8",
            "FLYWHEEL_WORKER__SWEEP_EVERY_S": "0.5",
            "FLYWHEEL_WORKER__RETRY_PAUSE_S": "0.5",
            "FLYWHEEL_WORKER__CHECKPOINT_EVERY_S": "0.5",
            "FLYWHEEL_WORKER__THREADS": "1",
            "FLYWHEEL_WORKER__SCRATCH_DIR": str(self.scratch),
            **(settings or {}),
        }
        self.database = Database(url)
        self.database.migrate()
        self.jobs = JobRepository(self.database)
        self.artifacts = ArtifactStore(self._environment["FLYWHEEL_ARTIFACTS_URL"])
        self.models, self._files = ModelRepository(self.database), FileRepository(self.database)
        self.workers: list[Process] = []
        self.models.put(
            ModelCard(
                name="base",
                kind="base",
                task="generate",
                weights=str(base),
                digest="sha256:base",
                context_length=512,
                created_at=1,
            )
        )

    def start_worker(self) -> Process:
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = Process(worker_python("-m", "workers"), log=log, environment=self._environment)
        self.workers.append(worker)
        worker.wait_until(lambda: " ready." in log.read_text(), timeout_s=START_S)
        return worker

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.database.dispose()

    def submit(self, content: bytes, *, enqueue: bool = True, **hyperparameters: object) -> Job:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        file = StoredFile(
            id=f"file-{digest[7:31]}",
            tenant=TENANT,
            filename="rows.jsonl",
            purpose="fine-tune",
            bytes=len(content),
            digest=digest,
            artifact=f"files/{digest[7:31]}",
            created_at=1,
        )
        if self._files.get(file.id, tenant=TENANT) is None:
            self.artifacts.write(file.artifact, io.BytesIO(content))
            self._files.add(file)
        spec = SupervisedSpec(
            base_model="base",
            training_file=file.id,
            training_file_digest=digest,
            seed=7,
            hyperparameters=SupervisedHyperparameters.model_validate(hyperparameters),
        )
        job = self.jobs.create(
            family="finetune.supervised", tenant=TENANT, spec=spec.model_dump(mode="json"), trace_context={}
        )
        if enqueue:
            self.enqueue(job)
        return job

    def enqueue(self, job: Job) -> None:
        JobQueue(create_celery(self._redis_url)).enqueue(job.id)

    def now(self, job: Job) -> Job:
        found = self.jobs.get(job.id)
        assert found is not None
        return found

    def wait_for(self, done: Callable[[], object], *, timeout_s: float = 300.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {timeout_s} s:\n{self.workers[-1].log.read_text()[-4000:]}")
            time.sleep(0.02)

    def wait_for_message(self, job: Job, start: str) -> None:
        self.wait_for(lambda: self._has_told(job, start))

    def _has_told(self, job: Job, start: str) -> bool:
        told = any(message.startswith(start) for message in self.messages(job))
        assert told or self.now(job).finished_at is None, self.messages(job)
        return told

    def wait_for_end(self, job: Job, *, timeout_s: float = 400.0) -> Job:
        self.wait_for(lambda: self.now(job).finished_at is not None, timeout_s=timeout_s)
        return self.now(job)

    def steps(self, job: Job) -> list[tuple[int, float]]:
        """Steps and losses in the order in which they were told, repeated ones too."""
        events = [numbered.event for numbered in self.jobs.events_since(job.id, 0, limit=10_000)]
        return [(event.data["step"], event.data["train_loss"]) for event in events if "step" in event.data]

    def last_step(self, job: Job) -> int:
        newest = self.jobs.events(job.id, limit=1)
        return int(newest[0].data.get("step", 0)) if newest else 0

    def last_told(self, job: Job) -> int:
        return self.steps(job)[-1][0]

    def is_held(self, job: Job) -> bool:
        """Whether a worker has it."""
        with self.database.session() as session:
            return session.get_one(JobRow, job.id).lease_expires_at is not None

    def pause_and_wait(self, job: Job) -> None:
        self.jobs.pause(job.id, tenant=TENANT)
        self.wait_for(lambda: not self.is_held(job))

    def resume(self, job: Job) -> None:
        self.jobs.resume(job.id, tenant=TENANT)
        self.enqueue(job)

    def messages(self, job: Job) -> list[str]:
        events = [numbered.event for numbered in self.jobs.events_since(job.id, 0, limit=10_000)]
        return [event.message for event in events if event.type == "message"]

    def card(self, job: Job) -> ModelCard:
        name = self.now(job).result_model
        card = None if name is None else self.models.get(name)
        assert card is not None
        return card

    def adapter(self, job: Job) -> bytes:
        return b"".join(self.artifacts.read(f"{self.card(job).weights}/adapter_model.safetensors"))


def make_tiny_base(folder: Path) -> Path:
    """A small random Llama that the worker's Python writes."""
    log = folder / "made.log"
    maker = Process(worker_python("-m", "tests.workers.tiny_base", str(folder / "base")), log=log)
    maker.wait(timeout_s=120)
    return folder / "base"


def child_of(worker: Process) -> psutil.Process:
    (child,) = psutil.Process(worker.pid).children()
    return child


def rows(count: int, *, letters: int = 40) -> bytes:
    """Training data of `count` different conversations."""
    lines = []
    for number in range(count):
        answer = (f"The answer to {number} is {number * number}. " * letters)[:letters]
        turns = [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": turns}))
    return "\n".join(lines).encode()
