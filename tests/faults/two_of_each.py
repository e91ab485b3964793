"""Two gateways, two engines, three workers, PostgreSQL and Valkey: what runs in production, of which each may die."""

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from redis.asyncio import Redis

from contracts.engine import EngineLease
from contracts.jobs import Job
from store.database import Database
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from store.keys import NewApiKey
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card
from tests.gateway_process import GatewayProcess
from tests.postgres_process import PostgresProcess
from tests.processes import Process, python
from tests.tenant_data import ROWS
from tests.valkey_process import ValkeyProcess

LEASE_S = 3
START_S = 120.0
TENANT = "acme"


class TwoOfEach:
    def __init__(self, folder: Path, postgres: PostgresProcess, database_url: str) -> None:
        self._folder, self.postgres = folder, postgres
        self.valkey = ValkeyProcess(folder / "valkey")
        self._settings = {
            "FLYWHEEL_REDIS_URL": self.valkey.url,
            "FLYWHEEL_DATABASE_URL": database_url,
            "FLYWHEEL_ARTIFACTS_URL": f"file://{folder}/artifacts",
            "FLYWHEEL_LIMITS__EDGE_REQUESTS_PER_MINUTE": "6000",
            "FLYWHEEL_WORKER__LEASE_TTL_S": str(LEASE_S),
            "FLYWHEEL_WORKER__SWEEP_EVERY_S": "1",
            "FLYWHEEL_WORKER__RETRY_PAUSE_S": "0.5",
            "FLYWHEEL_WORKER__SCRATCH_DIR": str(folder),
        }
        self.database = Database(database_url)
        self.database.migrate()
        ModelRepository(self.database).put(model_card())
        self.jobs, self._queue = JobRepository(self.database), JobQueue(create_celery(self.valkey.url))
        self.engines = [FakeEngineProcess(log=folder / f"engine-{number}.log") for number in range(2)]
        self.gateways = [
            GatewayProcess(redis_url=self.valkey.url, folder=folder / f"gateway-{number}", settings=self._settings)
            for number in range(2)
        ]
        self.workers: list[Process] = []
        for _ in range(3):
            self._start_worker()
        self.key: NewApiKey = self.gateways[0].new_key(tenant=TENANT, requests_per_minute=60_000)
        self.lease_engines()

    def stop(self) -> None:
        for process in (*self.workers, *self.gateways, *self.engines):
            process.stop()
        self.valkey.stop()
        self.database.dispose()

    def lease_engines(self) -> None:
        """As agents do every second."""
        for engine in self.engines:
            asyncio.run(self._lease(engine))

    def ask(self, gateway: GatewayProcess, prompt: str = "Hello", **fields: object) -> httpx.Response:
        body = chat_body(prompt, **fields)
        return httpx.post(f"{gateway.url}{CHAT}", json=body, headers=self._headers(), timeout=60)

    def is_kept(self, gateway: GatewayProcess, prompt: str) -> bool:
        return self.ask(gateway, prompt, temperature=0).headers["x-flywheel-cache"] == "hit"

    def upload(self, gateway: GatewayProcess) -> str:
        """The file's id."""
        form = {"files": {"file": ("rows.jsonl", io.BytesIO(ROWS))}, "data": {"purpose": "fine-tune"}}
        answer = httpx.post(f"{gateway.base_url}/files", headers=self._headers(), timeout=60, **form)
        assert answer.status_code == 200, answer.text
        file_id: str = answer.json()["id"]
        return file_id

    def content(self, gateway: GatewayProcess, file_id: str) -> httpx.Response:
        return httpx.get(f"{gateway.base_url}/files/{file_id}/content", headers=self._headers(), timeout=60)

    def submit(self, *, seconds: float) -> Job:
        """A job that sleeps so long at its first attempt, and at any later one ends at once."""
        job = self.jobs.create(family="test.sleep", tenant=TENANT, spec={"seconds": seconds}, trace_context={})
        self._queue.enqueue(job.id)
        return job

    def status(self, job: Job) -> str:
        found = self.jobs.get(job.id)
        assert found is not None
        return found.status

    def worker_of(self, job: Job) -> Process:
        """The one that began it: a job's message may have gone to another, which took up what was first in line."""

        def began(line: str) -> bool:
            return "job started" in line and job.id in line

        return next(worker for worker in self.workers if any(map(began, worker.log.read_text().splitlines())))

    def wait_for(self, done: Callable[[], object], *, what: str) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, f"{what}: not after a minute"
            time.sleep(0.05)

    def _start_worker(self) -> None:
        log = self._folder / f"worker-{len(self.workers)}.log"
        worker = Process(python("-m", "tests.workers.worker_process"), log=log, environment=self._settings)
        self.workers.append(worker)
        worker.wait_until(lambda: " ready." in log.read_text(), timeout_s=START_S)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key.secret}"}

    async def _lease(self, engine: FakeEngineProcess) -> None:
        lease = EngineLease(
            engine=f"engine-{engine.port}",
            url=engine.url,
            model=MODEL,
            task="generate",
            capacity=64,
            context_length=engine.context_length,
        )
        async with Redis.from_url(self.valkey.url) as redis:
            store = LeaseStore(redis)
            await store.put(lease, ttl_s=600)
            await store.announce(lease.engine)
