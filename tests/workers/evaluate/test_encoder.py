"""The family `evaluate.harness.encoder`, from the API to scores, through the gateway."""

import io
import json
from typing import Any

import httpx
import pytest
from openai import OpenAI

from contracts.harness import HARNESS_FAMILY
from tests.fake_engine import answers
from tests.gateway.conftest import EMBEDDER, embedder, model_card, wait_until
from tests.workers.evaluate.conftest import Evaluations
from tests.workers.evaluate.harness_bench import RUNS
from workers.evaluate.families import evaluate_encoder

__all__ = ["embedder"]  # fixture

CLASSIFIER = "fake-classifier"
TEXTS = [f"Text number {number}" for number in range(40)]


def api(evaluations: Evaluations) -> httpx.Client:
    headers = {"authorization": f"Bearer {evaluations.key.secret}"}
    return httpx.Client(base_url=evaluations.serving.gateway.url, headers=headers)


def run(evaluations: Evaluations, **body: Any) -> dict[str, Any]:
    with api(evaluations) as client:
        created = client.post(RUNS, json=body)
        assert created.status_code == 201, created.text
        job = evaluations.workshop.jobs.get(created.json()["id"])
        assert job is not None
        evaluations.workshop.run(job, evaluate_encoder)
        return client.get(f"{RUNS}/{job.id}").json()


def upload(client: OpenAI, rows: list[dict[str, Any]], purpose: Any) -> str:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return client.files.create(file=("rows.jsonl", io.BytesIO(content)), purpose=purpose).id


def given(text: str) -> dict[str, Any]:
    return answers.classification({"model": CLASSIFIER, "input": text})["data"][0]


@pytest.fixture
def classifier(evaluations: Evaluations, start_fake_engine, lease, redis_sync) -> Evaluations:
    engine = start_fake_engine(model=CLASSIFIER)
    evaluations.serving.register(redis_sync, model_card(CLASSIFIER, task="classify"))
    lease(engine, task="classify")
    wait_until(lambda: evaluations.serving.models().get(CLASSIFIER) == "live")
    return evaluations


def test_a_classifier_is_measured_on_labelled_rows(classifier: Evaluations):
    wrong = {"negative": "positive", "positive": "negative"}
    rows = [
        {"text": text, "label": wrong[given(text)["label"]] if place % 4 == 0 else given(text)["label"]}
        for place, text in enumerate(TEXTS)
    ]
    told = run(classifier, model=CLASSIFIER, file=upload(classifier.client, rows, "fine-tune"))
    assert told["status"] == "succeeded", told
    scores = {score["metric"]: score for score in told["scores"]}
    assert scores["accuracy"]["value"] == pytest.approx(0.75)
    assert scores["accuracy"]["stderr"] == pytest.approx((0.75 * 0.25 / 39) ** 0.5)
    confusion = scores["macro_f1"]["details"]["confusion"]
    assert confusion["positive"]["negative"] + confusion["negative"]["positive"] == 10
    assert sum(each["rows"] for each in scores["macro_f1"]["details"]["reliability"]) == 40
    assert scores["calibration_error"]["higher_is_better"] is False


def test_embeddings_are_measured_on_rows_that_are_here_and_on_a_file(evaluations: Evaluations, embedder):
    local = run(evaluations, model=EMBEDDER, limit=20)
    assert local["status"] == "succeeded", local
    assert {score["metric"] for score in local["scores"]} == {
        "ndcg_at_10",
        "mrr_at_10",
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
    }
    rows = [{"item": {"query": text, "passage": text}} for text in TEXTS]
    own = run(evaluations, model=EMBEDDER, file=upload(evaluations.client, rows, "evals"))
    assert {score["value"] for score in own["scores"]} == {1.0}  # the fake engine's vectors are near by shared words
    assert own["scores"][0]["details"] == {"queries": 40, "passages": 40}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": CLASSIFIER}, "file"),
        ({"model": CLASSIFIER, "file": "file-none"}, "file"),
        ({"model": CLASSIFIER, "file": "wrong kind"}, "file"),
        ({"model": CLASSIFIER, "tasks": ["local"]}, "tasks"),
        ({"model": CLASSIFIER, "num_fewshot": 1}, "num_fewshot"),
        ({"model": "smollm2-135m-instruct", "file": "file-none"}, "file"),
        ({"model": "smollm2-135m-instruct", "tasks": []}, "tasks"),
        ({"model": "smollm2-135m-instruct", "tasks": ["../etc"]}, "tasks.0"),
        ({"model": "smollm2-135m-instruct", "limit": 0}, "limit"),
        ({"model": "smollm2-135m-instruct", "taks": ["local"]}, "taks"),
        ({"model": "external/gpt"}, "model"),
        ({"model": "nobody"}, "model"),
        ({}, "model"),
    ],
)
def test_bad_input_is_refused_by_its_field(classifier: Evaluations, body: dict[str, Any], param: str):
    if body.get("file") == "wrong kind":
        rows = [{"tokens": ["a"], "ner_tags": ["O"]}] * 10
        body = body | {"file": upload(classifier.client, rows, "fine-tune")}
    with api(classifier) as client:
        answer = client.post(RUNS, json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param
    assert classifier.workshop.jobs.page(tenant=classifier.key.key.tenant, family=HARNESS_FAMILY) == []


def test_runs_are_listed_cancelled_and_hidden_from_others(evaluations: Evaluations):
    with api(evaluations) as client:
        made = [client.post(RUNS, json={"model": evaluations.model, "limit": n}).json()["id"] for n in (1, 2, 3)]
        page = client.get(RUNS, params={"limit": 2}).json()
        rest = client.get(RUNS, params={"limit": 2, "after": page["last_id"]}).json()
        assert {run["id"] for run in page["data"] + rest["data"]} == set(made)
        assert (page["has_more"], rest["has_more"]) == (True, False)
        assert page["data"][0]["tasks"] == ["local"]
        assert client.post(f"{RUNS}/{made[0]}/cancel").json()["status"] == "cancelled"
        assert client.get(f"{RUNS}/{made[0]}").json()["status"] == "cancelled"
        assert client.get(f"{RUNS}/{made[0]}/tasks/local_piqa").json()["error"]["param"] == "task"
        other = evaluations.serving.gateway.new_key().secret
        hidden = client.get(f"{RUNS}/{made[1]}", headers={"authorization": f"Bearer {other}"})
        assert (hidden.status_code, hidden.json()["error"]["param"]) == (404, "run_id")
