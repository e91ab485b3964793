"""The family `evaluate.harness`, from its API to scores, with the worker's own environment and a fake engine."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from store.job_checkpoints import CheckpointRepository
from store.jobs import JobRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import Serving, model_card, redis_sync, serving, wait_until
from tests.processes import ROOT
from tests.workers.evaluate.harness_bench import (
    CONTEXT_LENGTH,
    MODEL,
    HarnessBench,
    figures,
    straight_figures,
)
from tests.workers.finetune.bench import WORKER_PYTHON

__all__ = ["redis_sync", "serving"]  # fixtures

pytestmark = pytest.mark.timeout(600)

FIRST_FENCE = 1
KINDS = ["local_commonsense_qa", "local_support_summaries", "local_story_perplexity"]
"""Likelihoods of choices, texts of the model's own, likelihoods of whole texts."""


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([WORKER_PYTHON, "-m", "tests.workers.tiny_base", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def harness(
    serving: Serving,
    start_fake_engine: Callable[..., FakeEngineProcess],
    lease,
    redis_sync,
    tokenizer: Path,
    tmp_path: Path,
) -> HarnessBench:
    engine = start_fake_engine(model=MODEL, context_length=CONTEXT_LENGTH)
    serving.register(redis_sync, model_card(MODEL, weights=str(tokenizer), context_length=CONTEXT_LENGTH))
    lease(engine)
    wait_until(lambda: serving.models().get(MODEL) == "live")
    return HarnessBench(Serving(serving.gateway, engine), tokenizer, tmp_path, serving.gateway.new_key())


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="plain"),
        pytest.param({"num_fewshot": 2, "apply_chat_template": True}, id="chat", marks=pytest.mark.long),
    ],
)
def test_scores_are_those_of_the_harness_straight_at_the_engine(harness: HarnessBench, fields: dict):
    run = harness.work(harness.create(tasks=KINDS, limit=6, **fields))
    assert run["status"] == "succeeded", run
    straight = straight_figures(harness.straight(tasks=KINDS, limit=6, **fields))
    assert figures(run["scores"]) == pytest.approx(straight, rel=1e-9)
    assert {each["rows"] for each in run["scores"]} == {6}
    assert len(set(straight.values()) - {0, 1}) > 5

    asked = harness.samples(run, KINDS[0])["samples"][KINDS[0]]
    assert len(asked) == 6
    assert len(asked[0]["answered"]) == 5


def test_the_cache_stays_the_users(harness: HarnessBench):
    harness.work(harness.create(tasks=KINDS[:1], limit=3))
    harness.work(harness.create(tasks=KINDS[:1], limit=3))
    assert len(harness.serving.engine.requests()) == 2 * 3 * 5


def test_what_a_killed_worker_finished_is_not_done_again(harness: HarnessBench):
    run = harness.create(tasks=KINDS[:2], limit=4)
    engine = harness.serving.engine
    engine.behaviour(time_to_first_token_s=0.2)
    worker = harness.start_worker(run)
    database = harness.serving.gateway.database
    worker.wait_until(lambda: bool(CheckpointRepository(database).with_state(run["id"])), timeout_s=300)
    worker.kill()
    before = len(likelihoods(engine))
    assert before == 4 * 5
    JobRepository(database).release(run["id"], FIRST_FENCE)  # as a sweeper does when the lease has run out
    ended = harness.work(run)
    assert ended["status"] == "succeeded"
    assert len(likelihoods(engine)) == before
    assert {each["task"] for each in ended["scores"]} == set(KINDS[:2])


def test_a_cancelled_run_ends_in_mid_task(harness: HarnessBench):
    run = harness.create(tasks=["local"])
    harness.serving.engine.behaviour(time_to_first_token_s=600.0)
    worker = harness.start_worker(run)
    worker.wait_until(lambda: len(harness.serving.engine.requests()) > 0, timeout_s=300)
    assert harness.cancel(run)["status"] == "cancelled"
    worker.wait(timeout_s=60)
    assert harness.retrieve(run)["scores"] == []


@pytest.mark.parametrize(
    ("tasks", "code", "param"),
    [
        (["local_commonsense_qa", "nonsense"], "unknown_task", "tasks.1"),
        (["arc_easy"], "data_unavailable", "tasks"),
    ],
)
def test_a_task_that_cannot_be_run_is_named(harness: HarnessBench, tasks: list[str], code: str, param: str):
    run = harness.work(harness.create(tasks=tasks, limit=2))
    assert run["status"] == "failed"
    assert (run["error"]["code"], run["error"]["param"]) == (code, param)
    assert tasks[-1] in run["error"]["message"]


def test_a_refusal_ends_the_run_with_the_engines_words(harness: HarnessBench):
    refusal = {"error": {"message": "No echo here.", "type": "BadRequestError", "param": None, "code": 400}}
    harness.serving.engine.behaviour(status=400, body=refusal)
    run = harness.work(harness.create(tasks=KINDS[:1], limit=2))
    assert run["status"] == "failed"
    assert "No echo here." in run["error"]["message"]


def likelihoods(engine: FakeEngineProcess) -> list[dict]:
    return [request for request in engine.requests() if request["body"].get("echo")]
