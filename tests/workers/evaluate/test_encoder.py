"""The family `evaluate.harness.encoder`, from the API to scores, through the gateway."""

import io
import json
from pathlib import Path
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
    return work(evaluations, created.json()["id"])


def work(evaluations: Evaluations, run_id: str) -> dict[str, Any]:
    """What the API tells of the run after a worker had it."""
    job = evaluations.workshop.jobs.get(run_id)
    assert job is not None
    evaluations.workshop.run(job, evaluate_encoder)
    with api(evaluations) as client:
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


def grouped_rows() -> list[dict[str, Any]]:
    """40 texts. The classifier is right about the 32 of adults, and wrong about the 8 of children."""
    wrong = {"negative": "positive", "positive": "negative"}
    return [
        {"text": text, "label": wrong[label], "age": "child"}
        if place % 5 == 0
        else {"text": text, "label": label, "age": "adult"}
        for place, text in enumerate(TEXTS)
        for label in [given(text)["label"]]
    ]


def as_items(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"item": row} for row in rows]


def test_a_classifiers_fairness_is_measured_by_a_column_of_the_rows(classifier: Evaluations, tmp_path: Path):
    rows = grouped_rows()
    file, page, home = tmp_path / "rows.jsonl", tmp_path / "fairness.html", tmp_path / "home"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fairness = ("--file", str(file), "--sensitive", "age", "--positive", "positive")
    queued = classifier.command(home, "harness", CLASSIFIER, *fairness, "--no-watch")
    assert queued.returncode == 0, queued.stderr
    told = work(classifier, queued.stdout.split()[1])
    assert told["status"] == "succeeded", told
    found = told["fairness"]
    assert {group: (share["mean"], share["rows"]) for group, share in found["accuracy"].items()} == {
        "adult": (1, 32),
        "child": (0, 8),
    }
    (positive,) = found["labels"]
    assert {
        group: (rates["recall"]["mean"], rates["false_positive_rate"]["mean"])
        for group, rates in positive["groups"].items()
    } == {
        "adult": (1, 0),
        "child": (0, 1),
    }
    got = {
        age: [given(row["text"])["label"] == "positive" for row in rows if row["age"] == age]
        for age in ("adult", "child")
    }
    selected = {age: sum(those) / len(those) for age, those in got.items()}
    scores = {score["metric"]: score for score in told["scores"]}
    assert scores["accuracy"]["value"] == pytest.approx(32 / 40)
    assert scores["demographic_parity_difference"]["value"] == pytest.approx(abs(selected["adult"] - selected["child"]))
    assert scores["demographic_parity_ratio"]["value"] == pytest.approx(min(selected.values()) / max(selected.values()))
    assert (scores["equalized_odds_difference"]["value"], scores["equalized_odds_difference"]["details"]) == (
        1,
        {"label": "positive"},
    )
    assert positive["equalized_odds_p_value"] < 0.01 < positive["demographic_parity_p_value"]
    (warning,) = found["warnings"]
    assert "`child`" in warning
    with api(classifier) as client:
        kept = client.get(f"{RUNS}/{told['id']}/tasks/classification").json()
    assert kept["fairness"] == found
    shown = classifier.command(home, "harness-show", told["id"], "--report", str(page))
    assert shown.returncode == 0, shown.stderr
    assert "100% (89% – 100%)" in shown.stdout  # adults' accuracy: of 32 rows all, by Wilson
    assert f"Warning: {warning}" in shown.stdout
    assert "<svg" in page.read_text()
    assert "100 % (89 – 100 %)" in page.read_text()


@pytest.mark.parametrize(
    ("changed", "wanted", "param"),
    [
        ({"age": "child"}, {}, "sensitive"),
        ({}, {"positive": "neutral"}, "positive"),
    ],
    ids=["one group", "no row has the positive label"],
)
def test_rows_that_tell_no_fairness_fail_the_run_by_the_field(
    classifier: Evaluations, changed: dict[str, Any], wanted: dict[str, Any], param: str
):
    first, *others = grouped_rows()
    rows = [first, *(row | changed for row in others)]
    file = upload(classifier.client, as_items(rows), "evals")
    told = run(classifier, model=CLASSIFIER, file=file, sensitive="age", **wanted)
    assert (told["status"], told["error"]["param"]) == ("failed", param)
    assert told["scores"] == []


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
        ({"model": CLASSIFIER, "file": "grouped", "sensitive": "gender"}, "sensitive"),
        ({"model": CLASSIFIER, "file": "grouped", "sensitive": "label"}, "sensitive"),
        ({"model": CLASSIFIER, "file": "grouped", "sensitive": ""}, "sensitive"),
        ({"model": CLASSIFIER, "file": "grouped", "positive": "positive"}, "positive"),
        ({"model": CLASSIFIER, "file": "wrong kind", "sensitive": "age"}, "file"),
        ({"model": "smollm2-135m-instruct", "sensitive": "age"}, "sensitive"),
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
    if body.get("file") == "grouped":
        body = body | {"file": upload(classifier.client, as_items(grouped_rows()), "evals")}
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
