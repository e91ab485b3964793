"""The family `evaluate.release` on fake engines. On real ones: tests/end_to_end/test_releases.py."""

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from redis import Redis

from contracts.files import StoredFile
from contracts.jobs import Job
from contracts.models import ModelCard
from contracts.releases import EVALUATION_FAMILY, EVALUATION_FIELD, Evaluation, EvaluationSpec
from store import redis_names
from store.files import FileRepository
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import wait_until
from tests.workers.conftest import Workshop
from workers.evaluate.families import evaluate_release

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]}
CONTENT = b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(10))


def job_on(workshop: Workshop, content: bytes, *, digest_of: bytes | None = None) -> Job:
    digest = f"sha256:{hashlib.sha256(content if digest_of is None else digest_of).hexdigest()}"
    workshop.artifacts.write("files/held-out", BytesIO(content))
    file = StoredFile(
        id="file-1",
        tenant="acme",
        filename="held-out.jsonl",
        purpose="fine-tune",
        bytes=len(content),
        digest=digest,
        artifact="files/held-out",
        created_at=1,
    )
    FileRepository(workshop.database).add(file)
    spec = EvaluationSpec(stable="old", candidate="new", file="file-1", file_digest=digest, confidence=0.95)
    return workshop.jobs.create(
        family=EVALUATION_FAMILY, tenant="acme", spec=spec.model_dump(mode="json"), trace_context={}
    )


@pytest.mark.parametrize(
    ("content", "digest_of", "code"),
    [
        (CONTENT, None, "model_not_found"),
        (CONTENT, b"something else", "file_changed"),
        (CONTENT[:100], None, "invalid_file"),
    ],
)
def test_what_cannot_be_evaluated_fails_in_words(
    workshop: Workshop, content: bytes, digest_of: bytes | None, code: str
):
    job = job_on(workshop, content, digest_of=digest_of)
    workshop.run(job, evaluate_release)
    assert workshop.now(job).error.code == code


@pytest.fixture
def engines(workshop: Workshop, start_fake_engine: Callable[..., FakeEngineProcess], lease: LeaseGiver):
    """One for each model, which finds each token of an answer likely by one and by half a nat."""
    started = []
    for name, log_likelihood in (("old", -1.0), ("new", -0.5)):
        fields: dict[str, Any] = {"kind": "base", "task": "generate", "weights": "/nowhere", "digest": "sha256:0"}
        workshop.models.put(ModelCard(name=name, context_length=2048, created_at=1, **fields))
        engine = start_fake_engine(model=name)
        engine.behaviour(log_likelihood=log_likelihood)
        lease(engine)
        started.append(engine)
    return started


def evaluation_of(workshop: Workshop, job: Job) -> Evaluation:
    assert workshop.now(job).status == "succeeded", workshop.messages(job)
    return next(
        Evaluation.model_validate(event.data[EVALUATION_FIELD])
        for event in workshop.jobs.events(job.id)
        if EVALUATION_FIELD in event.data
    )


def test_both_models_are_asked_about_each_answer(workshop: Workshop, engines: list[FakeEngineProcess]):
    job = job_on(workshop, CONTENT)
    workshop.run(job, evaluate_release)
    found = evaluation_of(workshop, job)

    score = found.log_likelihood
    assert (score.stable, score.candidate, score.rows) == (-1.0, -0.5, 10)
    assert (score.low, score.high) == (0.5, 0.5)
    assert 0 < found.similarity.stable < 1
    for engine, name in zip(engines, ("old", "new"), strict=True):
        asked = [request["body"] for request in engine.requests()]
        assert {body["model"] for body in asked} == {name}
        whole = next(body["prompt"] for body in asked if isinstance(body.get("prompt"), list))
        assert bytes(whole) == b"<user>Hi</><assistant>Aye"
        generated = next(body for body in asked if "messages" in body and "max_tokens" in body)
        assert (generated["messages"], generated["temperature"]) == (ROW["messages"][:1], 0)


def test_how_far_it_is_is_told(workshop: Workshop, engines: list[FakeEngineProcess], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.evaluate.release.TELL_EVERY_S", 0.0)
    job = job_on(workshop, CONTENT)
    workshop.run(job, evaluate_release)
    told = workshop.messages(job)
    assert "Log-likelihoods: 1 of 10 conversations." in told
    assert "Answers of `new`: 9 of 10 conversations." in told
    assert evaluation_of(workshop, job).similarity.rows == 10


def test_an_engine_that_fails_now_and_then_is_asked_again(workshop: Workshop, engines: list[FakeEngineProcess]):
    engines[0].behaviour(status=500, for_requests=3)
    job = job_on(workshop, CONTENT)
    workshop.run(job, evaluate_release)
    assert evaluation_of(workshop, job).log_likelihood.candidate == -0.5


def test_an_engine_that_fails_for_good_fails_the_evaluation(workshop: Workshop, engines: list[FakeEngineProcess]):
    engines[1].behaviour(status=500, paths=("/v1/completions",))
    job = job_on(workshop, CONTENT)
    workshop.run(job, evaluate_release)
    assert workshop.now(job).error.code == "engine_failed"


def test_a_model_that_no_engine_serves_is_asked_for_until_the_job_is_cancelled(
    workshop: Workshop, engines: list[FakeEngineProcess], redis_url: str
):
    adapter = {"kind": "adapter", "parent": "old", "task": "generate", "weights": "models/x", "digest": "sha256:0"}
    workshop.models.put(ModelCard.model_validate({"name": "new", "context_length": 2048, "created_at": 1} | adapter))
    engines[1].stop()
    with Redis.from_url(redis_url) as redis:
        for name in redis.keys("flywheel:lease:*"):
            if b'"new"' in redis.get(name):
                redis.delete(name)
        job = job_on(workshop, CONTENT)
        running = workshop.start(job, evaluate_release)
        wait_until(lambda: redis.zscore(redis_names.adapters_wanted("old"), "new") is not None)
    workshop.jobs.cancel(job.id, tenant="acme")
    running.result(10)
    assert workshop.now(job).status == "cancelled"
