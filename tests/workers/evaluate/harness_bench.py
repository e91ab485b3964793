"""Harness runs on real parts: the API, a gateway, the worker's process in its own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from store.keys import NewApiKey
from tests.gateway.conftest import Serving
from tests.processes import ROOT, Process
from tests.workers.finetune.bench import WORKER_PYTHON

RUNS = "/v1/flywheel/harness_runs"
MODEL = "tiny-text"
CONTEXT_LENGTH = 2048


class HarnessBench:
    """`serving.engine` serves MODEL, whose tokenizer is in `tokenizer`."""

    def __init__(self, serving: Serving, tokenizer: Path, folder: Path, key: NewApiKey) -> None:
        self.serving, self.tokenizer, self._folder = serving, tokenizer, folder
        headers = {"authorization": f"Bearer {key.secret}"}
        self._client = httpx.Client(base_url=serving.gateway.url, headers=headers, timeout=30)

    def create(self, **fields: Any) -> dict[str, Any]:
        answer = self._client.post(RUNS, json={"model": MODEL} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def retrieve(self, run: dict[str, Any]) -> dict[str, Any]:
        return self._client.get(f"{RUNS}/{run['id']}").raise_for_status().json()

    def cancel(self, run: dict[str, Any]) -> dict[str, Any]:
        return self._client.post(f"{RUNS}/{run['id']}/cancel").raise_for_status().json()

    def samples(self, run: dict[str, Any], task: str) -> dict[str, Any]:
        return self._client.get(f"{RUNS}/{run['id']}/tasks/{task}").raise_for_status().json()

    def start_worker(self, run: dict[str, Any]) -> Process:
        """A process that takes up the run, and ends when it has."""
        settings = self.serving.gateway.settings | {
            "FLYWHEEL_WORKER__GATEWAY_URL": self.serving.gateway.base_url,
            "FLYWHEEL_EVALUATION__CONCURRENCY": "8",
            "HF_HUB_OFFLINE": "1",
        }
        command = [str(WORKER_PYTHON), "-m", "tests.workers.finetune.process", run["id"]]
        return Process(command, log=self._folder / "worker.log", environment=settings)

    def work(self, run: dict[str, Any]) -> dict[str, Any]:
        self.start_worker(run).wait(timeout_s=300)
        return self.retrieve(run)

    def straight(self, **wanted: Any) -> dict[str, Any]:
        """What the harness itself finds at the engine."""
        fields = {"url": self.serving.engine.url, "model": MODEL, "tokenizer": str(self.tokenizer)}
        return straight(fields | {"context_length": CONTEXT_LENGTH} | wanted)


def straight(wanted: dict[str, Any], *, timeout_s: float = 300) -> dict[str, Any]:
    done = subprocess.run(
        [str(WORKER_PYTHON), "-m", "tests.workers.evaluate.straight"],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"},
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def figures(scores: list[dict[str, Any]]) -> dict[str, float]:
    """Every value, and every standard error that is known, by names that are alike in both."""
    told = {}
    for each in scores:
        told[f"{each['task']} {each['metric']},{each['filter']}"] = each["value"]
        if each["stderr"] is not None:
            told[f"{each['task']} {each['metric']}_stderr,{each['filter']}"] = each["stderr"]
    return told


def straight_figures(results: dict[str, Any]) -> dict[str, float]:
    return {
        f"{task} {name}": value
        for task, found in results["results"].items()
        for name, value in found.items()
        if "," in name and value != "N/A"
    }
