"""The family `evaluate.run`, from OpenAI's SDK to a report."""

import io
import json
import time

import pytest
import yaml
from openai import BadRequestError, NotFoundError

from contracts.models import ModelCard
from contracts.settings import EvaluationSettings
from tests.fake_engine import answers
from tests.gateway.conftest import MODEL, wait_until
from tests.workers.evaluate.conftest import CAPITALS, EXACT, Evaluations
from workers.evaluate.families import evaluate_run

LIKE = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "evaluation_metric": "chrf",
    "pass_threshold": 0.2,
}


def said_to(question: str) -> str:
    """What the fake engine answers."""
    request = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
    return "".join(answers.answer_to("chat", request, tokens=8, token_bytes=None).choices[0])


def test_a_model_is_evaluated_and_every_row_can_be_read(evaluations: Evaluations):
    right = said_to(CAPITALS[0]["item"]["question"])
    rows = [{"item": CAPITALS[0]["item"] | {"answer": right}}, *CAPITALS[1:]]
    eval_id = evaluations.create(EXACT, LIKE)
    run = evaluations.run(eval_id, evaluations.sampled(rows), name="first")

    assert (run.status, run.model, run.name) == ("completed", MODEL, "first")
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (4, 1, 3, 0)
    by_criterion = {each.testing_criteria: (each.passed, each.failed) for each in run.per_testing_criteria_results}
    assert by_criterion["exact"] == (1, 3)
    usage = run.per_model_usage[0]
    assert (usage.run_model_name, usage.invocation_count) == (MODEL, 4)
    assert usage.completion_tokens == 4 * 8
    items = evaluations.items(run)
    assert [item.datasource_item["answer"] for item in items] == [right, "Rome", "Madrid", "Lima"]
    assert [item.status for item in items] == ["pass", "fail", "fail", "fail"]
    first = items[0]
    assert first.sample.output[0].content == first.sample.model_dump()["output_text"] == right
    assert {result.name: result.score for result in first.results} == {"exact": 1, "alike": 1}
    told = run.model_dump()["statistics"][0]
    assert (told["name"], told["pass_rate"]["mean"], told["pass_rate"]["rows"]) == ("exact", 0.25, 4)
    assert 0 < told["pass_rate"]["low"] < 0.25 < told["pass_rate"]["high"] < 1


def test_the_report_shows_figures_pictures_and_rows(evaluations: Evaluations):
    eval_id = evaluations.create(EXACT, LIKE)
    run = evaluations.run(eval_id)
    page = evaluations.client.get(f"/evals/{eval_id}/runs/{run.id}/report", cast_to=str)
    assert page.count("<svg") == 3
    assert "capitals" in page
    assert said_to(CAPITALS[1]["item"]["question"]) in page
    folder = evaluations.rows.run(run.id).results.report  # type: ignore[union-attr]
    told = json.loads(b"".join(evaluations.workshop.artifacts.read(f"{folder}/report.json")))
    assert told["results"]["statistics"][0]["name"] == "exact"


def test_rows_from_a_file_with_answers_of_their_own_ask_no_model(evaluations: Evaluations):
    rows = [row | {"sample": {"output_text": "Paris"}} for row in CAPITALS]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    file = evaluations.client.files.create(file=("rows.jsonl", io.BytesIO(content)), purpose="evals")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = evaluations.run(evaluations.create(EXACT), source)
    assert (run.status, run.model, run.result_counts.passed, run.result_counts.failed) == ("completed", None, 1, 3)
    assert evaluations.serving.engine.requests() == []


def test_an_earlier_run_is_compared_row_by_row(evaluations: Evaluations):
    eval_id = evaluations.create(EXACT)
    before = evaluations.run(eval_id)
    source = {
        "type": "jsonl",
        "source": {
            "type": "file_content",
            "content": [row | {"sample": {"output_text": row["item"]["answer"]}} for row in CAPITALS],
        },
    }
    run = evaluations.run(eval_id, source, extra_body={"baseline": before.id})
    compared = run.model_dump()["statistics"][0]["against_baseline"]
    assert (compared["baseline"], compared["difference"], compared["rows"]) == (0, 1, 4)
    assert compared["p_value"] == pytest.approx(2 / 2**4)
    other = evaluations.create(EXACT)
    with pytest.raises(BadRequestError) as refused:
        evaluations.client.evals.runs.create(other, data_source=source, extra_body={"baseline": before.id})  # type: ignore[arg-type]
    assert refused.value.param == "baseline"


def test_a_question_that_the_model_cannot_take_is_an_error_of_its_row_alone(evaluations: Evaluations):
    rows = [{"item": {"question": "long " * 3000, "answer": "x"}}, *CAPITALS]
    run = evaluations.run(evaluations.create(EXACT), evaluations.sampled(rows))
    assert (run.status, run.result_counts.errored, run.result_counts.failed) == ("completed", 1, 4)
    error = evaluations.items(run)[0].sample.error
    assert error.code == "context_length_exceeded"


def test_a_run_without_any_answer_fails_with_the_reason(evaluations: Evaluations):
    rows = [{"item": {"question": "long " * 3000, "answer": "x"}}] * 25
    run = evaluations.run(evaluations.create(EXACT), evaluations.sampled(rows))
    assert run.status == "failed"
    assert run.error.code == "context_length_exceeded"


def test_a_run_that_broke_off_goes_on_where_it_was(evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.evaluate.run.SAVE_EVERY_S", 0.0)
    eval_id = evaluations.create(EXACT)
    engine = evaluations.serving.engine
    run = evaluations.client.evals.runs.create(eval_id, data_source=evaluations.sampled(CAPITALS * 30))  # type: ignore[arg-type]
    engine.behaviour(time_to_first_token_s=0.3)
    evaluations.workshop.must_stop = False
    working = evaluations.workshop.start(evaluations.job_of(run.id), evaluate_run)
    wait_until(lambda: evaluations.rows.positions(run.id))
    evaluations.workshop.must_stop = True  # the worker is told to stop
    working.result(15)
    done = evaluations.rows.positions(run.id)
    assert 0 < len(done) < 120
    assert evaluations.job_of(run.id).status == "queued"

    evaluations.workshop.must_stop = False
    engine.reset()
    evaluations.work(run.id)
    assert evaluations.client.evals.runs.retrieve(run.id, eval_id=eval_id).result_counts.total == 120
    assert len(engine.requests()) <= 120 - len(done) + 1


def test_a_cancelled_run_keeps_its_rows_and_ends_at_once(evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.evaluate.run.SAVE_EVERY_S", 0.0)
    eval_id = evaluations.create(EXACT)
    evaluations.serving.engine.behaviour(time_to_first_token_s=0.4)
    run = evaluations.client.evals.runs.create(eval_id, data_source=evaluations.sampled(CAPITALS * 60))  # type: ignore[arg-type]
    working = evaluations.workshop.start(evaluations.job_of(run.id), evaluate_run)
    wait_until(lambda: evaluations.rows.positions(run.id))
    cancelled_at = time.monotonic()
    assert evaluations.client.evals.runs.cancel(run.id, eval_id=eval_id).status == "canceled"
    working.result(15)
    assert time.monotonic() - cancelled_at < 2
    found = evaluations.client.evals.runs.retrieve(run.id, eval_id=eval_id)
    assert 0 < found.result_counts.total < 240


def test_rows_that_were_learnt_from_are_told(evaluations: Evaluations):
    question, answer = "What is the capital of France?", "It is Paris, on the river Seine."
    learnt = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    content = b"".join(json.dumps(learnt).encode() + b"\n" for _ in range(10))
    file = evaluations.client.files.create(file=("train.jsonl", io.BytesIO(content)), purpose="fine-tune")
    job = evaluations.workshop.jobs.create(
        family="finetune.supervised",
        tenant=evaluations.key.key.tenant,
        spec={"training_file": file.id},
        trace_context={},
    )
    evaluations.workshop.jobs.cancel(job.id, tenant=job.tenant)
    card = evaluations.workshop.models.get(MODEL)
    assert card is not None
    evaluations.workshop.models.put(card.model_copy(update={"job": job.id}))
    try:
        run = evaluations.run(evaluations.create(EXACT))
    finally:
        evaluations.workshop.models.put(ModelCard.model_validate(card))
    assert run.model_dump()["contamination"] == [{"model": MODEL, "job": job.id, "rows": [1]}]


@pytest.mark.parametrize(
    "gateway", [{"FLYWHEEL_EVALUATION__ENDPOINTS": '{"theirs": {"base_url": "x", "model": "y"}}'}], indirect=True
)
def test_a_model_of_others_is_asked_under_its_own_name_and_key(evaluations: Evaluations):
    other = f"{evaluations.serving.engine.url}/v1"
    evaluations.workshop.evaluation = EvaluationSettings.model_validate(
        {"endpoints": {"theirs": {"base_url": other, "model": MODEL, "api_key": "their secret"}}}
    )
    run = evaluations.run(evaluations.create(EXACT), evaluations.sampled(model="external/theirs"))
    assert (run.status, run.model, run.result_counts.total) == ("completed", "external/theirs", 4)
    asked = evaluations.serving.engine.requests()[0]
    assert asked["headers"]["authorization"] == "Bearer their secret"
    assert "priority" not in asked["body"]
    with pytest.raises(NotFoundError):
        evaluations.run(evaluations.create(EXACT), evaluations.sampled(model="external/nobody"))


def test_a_models_card_tells_what_was_measured_and_what_was_not(evaluations: Evaluations):
    def card(model: str = MODEL) -> str:
        return evaluations.client.get(f"/flywheel/model_cards/{model}", cast_to=str)

    before = card()
    assert "How good it is was not measured." in before
    run = evaluations.run(evaluations.create(EXACT, name="capitals"))
    after = card()
    front = yaml.safe_load(after.split("---")[1])
    assert front["pipeline_tag"] == "text-generation"
    assert front["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "exact",
        "value": 0.0,
        "name": "exact, mean score",
    }
    assert f"| capitals | {run.id} | exact | 4 |" in after
    assert "How good it is" not in after
    with pytest.raises(NotFoundError):
        card("nobody")


def test_a_worker_that_is_quicker_than_the_runs_row_waits_for_it(evaluations: Evaluations):
    run = evaluations.client.evals.runs.create(evaluations.create(EXACT), data_source=evaluations.sampled())  # type: ignore[arg-type]
    row, job = evaluations.rows.run(run.id), evaluations.job_of(run.id)
    of = evaluations.rows.get(run.eval_id, tenant=job.tenant)
    assert row is not None
    assert of is not None
    evaluations.rows.delete_run(run.id)
    working = evaluations.workshop.start(job, evaluate_run)
    wait_until(lambda: evaluations.workshop.now(job).status == "running")
    evaluations.rows.add_run(
        run.id, of=of, job=job.id, name=row.name, data_source=row.data_source, baseline=None, metadata={}
    )
    working.result(30)
    assert evaluations.workshop.now(job).status == "succeeded"
