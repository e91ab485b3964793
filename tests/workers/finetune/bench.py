"""A place to run fine-tuning jobs on real parts: a database, artifacts, base models, files, the worker's process."""

import hashlib
import io
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.engine import EngineTask
from contracts.files import StoredFile
from contracts.fine_tuning import family_of
from contracts.identifiers import new_id
from contracts.jobs import Job
from contracts.models import ModelCard
from store.artifacts import ArtifactStore, folder_digest
from store.database import Database
from store.files import FileRepository
from store.jobs import JobRepository
from store.models import ModelRepository
from tests.processes import ROOT

WORKER_PYTHON = ROOT / ".flywheel" / "envs" / "worker" / "bin" / "python"
TENANT = "acme"


class Bench:
    def __init__(self, folder: Path, *, redis_url: str = "redis://127.0.0.1:1/0") -> None:
        self.folder, self._redis_url = folder, redis_url
        self.database = Database(f"sqlite:///{folder}/flywheel.db")
        self.database.migrate()
        self.artifacts = ArtifactStore(f"file://{folder}/artifacts")
        self.jobs, self.models = JobRepository(self.database), ModelRepository(self.database)
        self._files = FileRepository(self.database)

    def add_base(self, name: str, weights: Path, task: EngineTask, *, context_length: int) -> None:
        self.models.put(
            ModelCard(
                name=name,
                kind="base",
                task=task,
                weights=str(weights),
                digest=folder_digest(weights),
                context_length=context_length,
                created_at=int(time.time()),
            )
        )

    def add_file(self, content: bytes | Sequence[Any], filename: str = "rows.jsonl") -> StoredFile:
        """Rows that are no bytes are written as JSON Lines."""
        if not isinstance(content, bytes):
            content = b"".join(json.dumps(row).encode() + b"\n" for row in content)
        file_id = new_id("file")
        file = StoredFile(
            id=file_id,
            tenant=TENANT,
            filename=filename,
            purpose="fine-tune",
            bytes=len(content),
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            artifact=f"files/{file_id}",
            created_at=int(time.time()),
        )
        self.artifacts.write(file.artifact, io.BytesIO(content))
        self._files.add(file)
        return file

    def create_job(self, method: str, base: str, *, seed: int = 0, **fields: Any) -> Job:
        """`fields` are the spec's; a StoredFile stands for its id and digest."""
        spec: dict[str, Any] = {"method": method, "base_model": base, "seed": seed}
        for name, value in fields.items():
            if isinstance(value, StoredFile):
                spec |= {name: value.id, f"{name}_digest": value.digest}
            else:
                spec[name] = value
        return self.jobs.create(family=family_of(method), tenant=TENANT, spec=spec, trace_context={})

    def run(self, *jobs: Job, timeout_s: float = 600, **settings: str) -> None:
        """All of them in one process, which is the worker's environment; `settings` are more of FLYWHEEL_…"""
        self.python(
            *("-m", "tests.workers.finetune.process", *(job.id for job in jobs)), timeout_s=timeout_s, settings=settings
        )

    def python(
        self,
        *arguments: str,
        stdin: str = "",
        timeout_s: float = 300,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """What the worker's Python prints."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling torch and its friends anew takes a minute
        environment |= {
            "FLYWHEEL_REDIS_URL": self._redis_url,
            "FLYWHEEL_DATABASE_URL": f"sqlite:///{self.folder}/flywheel.db",
            "FLYWHEEL_ARTIFACTS_URL": f"file://{self.folder}/artifacts",
            **(settings or {}),
        }
        done = subprocess.run(
            [WORKER_PYTHON, *arguments],
            cwd=ROOT,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        (self.folder / "worker.log").open("a").write(done.stdout + done.stderr)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    def now(self, job: Job) -> Job:
        found = self.jobs.get(job.id)
        assert found is not None
        return found

    def card(self, job: Job) -> ModelCard:
        """The model that a job made. Fails with the job's error where it made none."""
        now = self.now(job)
        card = None if now.result_model is None else self.models.get(now.result_model)
        assert card is not None, f"{now.error} {(self.folder / 'worker.log').read_text()[-6000:]}"
        return card

    def weights(self, job: Job) -> Path:
        """The folder of what a job made, checked by its digest."""
        card = self.card(job)
        folder = self.folder / "fetched" / job.id
        self.artifacts.download_folder(card.weights, folder, digest=card.digest)
        return folder

    def losses(self, rows: Sequence[Any], *jobs: Job) -> list[float]:
        """The loss of what each job published on the rows' last answers, by transformers alone."""
        wanted = []
        for job in jobs:
            card, folder = self.card(job), str(self.weights(job))
            base = self.models.get(card.parent or "")
            assert base is not None
            adapter = card.kind == "adapter"
            wanted.append(
                {"weights": base.weights if adapter else folder, "adapter": folder if adapter else None, "rows": rows}
            )
        told = self.python("-m", "tests.workers.finetune.measure", stdin=json.dumps(wanted))
        losses: list[float] = json.loads(told.splitlines()[-1])
        return losses

    def curve(self, job: Job, name: str = "train_loss") -> list[float]:
        """The values that its metrics events tell under a name, oldest first."""
        events = reversed(self.jobs.events(job.id, limit=10_000))
        return [event.data[name] for event in events if event.type == "metrics" and name in event.data]

    def messages(self, job: Job) -> list[str]:
        return [event.message for event in reversed(self.jobs.events(job.id, limit=10_000))]
