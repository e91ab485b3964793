"""An eval's whole way on real parts but for vLLM: OpenAI's SDK, a gateway, a job's run, a fake engine."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from sqlalchemy import update

from contracts.evals import EvalRun
from contracts.jobs import FINAL_STATUSES, Job
from store.evals import EvalRepository
from store.keys import NewApiKey
from store.tables import EvalScheduleRow, JobRow
from tests.gateway.conftest import MODEL, Serving, embedder, redis_sync, serving
from tests.gateway_process import GatewayProcess
from tests.processes import ROOT, python
from tests.workers.conftest import Workshop
from workers.evaluate.families import evaluate_run

__all__ = ["embedder", "redis_sync", "serving"]  # fixtures

CAPITALS = [
    {"item": {"question": f"What is the capital of {country}?", "answer": capital}}
    for country, capital in (("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Peru", "Lima"))
]
ITEM_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question"],
}
EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}


class Evaluations:
    """`create` makes an eval and a run through the SDK; `work` does what a worker would."""

    def __init__(self, serving: Serving, workshop: Workshop, key: NewApiKey, model: str) -> None:
        self.serving, self.workshop, self.key, self.model = serving, workshop, key, model
        self.client = OpenAI(base_url=serving.gateway.base_url, api_key=key.secret, max_retries=0)
        self.rows = EvalRepository(workshop.database)

    def create(self, *criteria: dict[str, Any], name: str = "capitals") -> str:
        config: Any = {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": True}
        return self.client.evals.create(name=name, data_source_config=config, testing_criteria=list(criteria)).id  # type: ignore[arg-type]

    def sampled(self, rows: Any = None, **fields: Any) -> dict[str, Any]:
        return {
            "type": "completions",
            "model": self.model,
            "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]},
            "source": {"type": "file_content", "content": CAPITALS if rows is None else rows},
        } | fields

    def run(self, eval_id: str, source: dict[str, Any] | None = None, **fields: Any) -> Any:
        run = self.client.evals.runs.create(eval_id, data_source=source or self.sampled(), **fields)  # type: ignore[arg-type]
        self.work(run.id)
        return self.client.evals.runs.retrieve(run.id, eval_id=eval_id)

    def job_of(self, run_id: str) -> Job:
        found = self.rows.run(run_id)
        assert isinstance(found, EvalRun)
        job = self.workshop.jobs.get(found.job)
        assert job is not None
        return job

    def work(self, run_id: str) -> None:
        self.workshop.run(self.job_of(run_id), evaluate_run)

    def command(self, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`flywheel eval` with these arguments."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")},
            "FLYWHEEL_HOME": str(home),
            "FLYWHEEL_BASE_URL": self.serving.gateway.base_url,
            "FLYWHEEL_API_KEY": self.key.secret,
        }
        words = python("-m", "cli", "eval", *arguments)
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def items(self, run: Any) -> list[Any]:
        return list(self.client.evals.runs.output_items.list(run.id, eval_id=run.eval_id))


@pytest.fixture
def gateway(redis_url: str, _gateways: Callable[..., GatewayProcess], request: pytest.FixtureRequest) -> GatewayProcess:
    """With an empty queue, and without schedules: a worker would take jobs of other tests first, which are older."""
    gateway = _gateways(getattr(request, "param", {}))
    with gateway.database.session() as session:
        session.execute(update(JobRow).where(JobRow.status.not_in(FINAL_STATUSES)).values(status="cancelled"))
        session.execute(update(EvalScheduleRow).values(paused=True))
    return gateway


@pytest.fixture
def evaluations(serving: Serving, redis_url: str, tmp_path: Path) -> Iterator[Evaluations]:
    gateway = serving.gateway
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with ThreadPoolExecutor(4) as threads:
        workshop = Workshop(gateway.database, gateway.artifacts, redis_url, threads, scratch)
        workshop.gateway_url = gateway.base_url
        yield Evaluations(serving, workshop, gateway.new_key(), MODEL)
