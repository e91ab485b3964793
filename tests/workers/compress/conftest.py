"""Studies by the real runner, with engines that stand in for vLLM: everything but torch and vLLM is real."""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from contracts.files import StoredFile
from contracts.jobs import Job
from contracts.models import ModelCard
from contracts.studies import REPORT_FIELD, STUDY_FAMILY, VARIANT_FIELD, StudyReport, StudySpec, VariantResult
from store.files import FileRepository
from tests.processes import ROOT
from tests.workers.conftest import Workshop
from workers.bench import Bench
from workers.compress.families import study

STAND_IN = ROOT / "tests" / "inference" / "stand_in"
BASE = "smollm2-135m-instruct"
ROWS = [
    {"messages": [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "The wheel turns."}]}
    for n in range(12)
]
QUICK = {"streams": [1, 2], "rounds": 2, "answer_tokens": 8, "longest_answer_tokens": 16}
QUICKER_ENGINE = {"technique": "serve", "serving": {"adapters": False}}


@dataclass(frozen=True)
class Laboratory:
    workshop: Workshop

    def job(self, *variants: dict[str, Any], **fields: Any) -> Job:
        plan = {"model": BASE, "conversations_file": "file-1", "measurement": QUICK, "variants": list(variants)}
        digest = self._file("file-1", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS))
        spec = StudySpec.model_validate({**plan, "file_digests": {"conversations_file": digest}, **fields})
        return self.workshop.jobs.create(
            family=STUDY_FAMILY, tenant="acme", spec=spec.model_dump(mode="json"), trace_context={}
        )

    def run(self, job: Job) -> Job:
        self.workshop.run(job, study)
        return self.workshop.now(job)

    def results(self, job: Job) -> dict[str, VariantResult]:
        """Each as often as it was told: a variant that was finished twice would show."""
        told = [event.data[VARIANT_FIELD] for event in self._metrics(job) if VARIANT_FIELD in event.data]
        names = [result["name"] for result in told]
        assert len(names) == len(set(names)), names
        return {result["name"]: VariantResult.model_validate(result) for result in told}

    def report(self, job: Job) -> StudyReport:
        return next(
            StudyReport.model_validate(event.data[REPORT_FIELD])
            for event in self._metrics(job)
            if REPORT_FIELD in event.data
        )

    def _metrics(self, job: Job) -> list[Any]:
        return list(reversed(self.workshop.jobs.events(job.id, limit=500)))

    def _file(self, file_id: str, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        files = FileRepository(self.workshop.database)
        if files.get(file_id, tenant="acme") is None:
            self.workshop.artifacts.write(f"files/{file_id}", BytesIO(content))
            of = {"purpose": "fine-tune", "bytes": len(content), "digest": digest, "created_at": 1}
            files.add(StoredFile(id=file_id, tenant="acme", filename="chats.jsonl", artifact=f"files/{file_id}", **of))
        return digest


@pytest.fixture
def laboratory(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_IN), str(ROOT)]))
    weights = tmp_path / "base"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"\0" * 4096)
    workshop.models.put(
        ModelCard(
            name=BASE,
            kind="base",
            task="generate",
            weights=str(weights),
            digest="sha256:0",
            context_length=2048,
            created_at=1,
        )
    )
    python = Path(sys.executable)
    workshop.bench = Bench(python, python, tmp_path / "no-such-python", start_timeout_s=30, watts_per_core=10)
    return Laboratory(workshop)
