"""/v1/evals as OpenAI's SDK uses it, and what it refuses. Runs that go on: tests/workers/evaluate."""

import io
from typing import Any

import pytest
from openai import APIStatusError, NotFoundError, OpenAI

from contracts.jobs import JobError
from store.evals import EvalRepository
from store.jobs import JobRepository
from tests.gateway.conftest import MODEL, Serving

CONFIG: Any = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"question": {"type": "string"}}},
    "include_sample_schema": True,
}
CHECK: Any = {
    "type": "string_check",
    "name": "says aye",
    "input": "{{ sample.output_text }}",
    "reference": "Aye",
    "operation": "like",
}
ROWS: Any = {"type": "file_content", "content": [{"item": {"question": "Ahoy?"}}]}
PROMPT: Any = {"type": "template", "template": [{"role": "user", "content": "{{ item.question }}"}]}


@pytest.fixture
def client(serving: Serving) -> OpenAI:
    return OpenAI(base_url=serving.gateway.base_url, api_key=serving.gateway.new_key().secret, max_retries=0)


def create(client: OpenAI, *criteria: Any, **fields: Any) -> Any:
    return client.evals.create(data_source_config=CONFIG, testing_criteria=[*criteria] or [CHECK], **fields)


def source(**fields: Any) -> Any:
    return {"type": "completions", "model": MODEL, "input_messages": PROMPT, "source": ROWS} | fields


def test_evals_are_made_listed_changed_and_deleted(client: OpenAI, serving: Serving):
    first = create(client, name="manners", metadata={"team": "sea"})
    second = create(client)
    assert (first.name, first.metadata, first.object) == ("manners", {"team": "sea"}, "eval")
    assert first.data_source_config.schema_["properties"]["item"] == CONFIG["item_schema"]
    assert first.testing_criteria[0].name == "says aye"
    assert {each.id for each in client.evals.list()} == {first.id, second.id}
    client.evals.update(second.id, name="renamed", metadata={"a": "b"})
    changed = client.evals.retrieve(second.id)
    assert (changed.name, changed.metadata) == ("renamed", {"a": "b"})
    run = client.evals.runs.create(first.id, data_source=source())
    assert client.evals.delete(first.id).deleted
    job = JobRepository(serving.gateway.database).get(run.model_dump()["job"])
    assert job is not None
    assert job.status == "cancelled"
    with pytest.raises(NotFoundError):
        client.evals.retrieve(first.id)


def test_pages_hold_each_eval_once(client: OpenAI):
    made = {create(client).id for _ in range(5)}
    listed = [each.id for each in client.evals.list(limit=2)]
    assert len(listed) == 5
    assert set(listed) == made


def test_runs_are_listed_by_how_they_stand_cancelled_and_deleted(client: OpenAI, serving: Serving):
    of = create(client)
    runs = [client.evals.runs.create(of.id, data_source=source(), name=f"run {n}") for n in range(3)]
    assert {run.status for run in runs} == {"queued"}
    jobs, rows = JobRepository(serving.gateway.database), EvalRepository(serving.gateway.database)
    jobs.fail(rows.run(runs[0].id).job, JobError(code="oops", message="It broke."))  # type: ignore[union-attr]
    assert client.evals.runs.cancel(runs[1].id, eval_id=of.id).status == "canceled"

    failed = client.evals.runs.list(of.id, status="failed").data
    assert [(run.id, run.error.code) for run in failed] == [(runs[0].id, "oops")]
    assert [run.id for run in client.evals.runs.list(of.id, status="queued")] == [runs[2].id]
    with pytest.raises(APIStatusError) as refused:
        client.evals.runs.delete(runs[2].id, eval_id=of.id)
    assert (refused.value.status_code, refused.value.param) == (409, "run_id")  # type: ignore[attr-defined]
    assert client.evals.runs.delete(runs[1].id, eval_id=of.id).deleted
    assert len(client.evals.runs.list(of.id).data) == 2
    with pytest.raises(NotFoundError):
        client.get(f"/evals/{of.id}/runs/{runs[2].id}/report", cast_to=str)


def test_nobody_sees_the_evals_of_others(client: OpenAI, serving: Serving):
    of = create(client)
    run = client.evals.runs.create(of.id, data_source=source())
    other = OpenAI(base_url=serving.gateway.base_url, api_key=serving.gateway.new_key().secret, max_retries=0)
    assert other.evals.list().data == []
    for ask in (
        lambda: other.evals.retrieve(of.id),
        lambda: other.evals.update(of.id, name="mine"),
        lambda: other.evals.delete(of.id),
        lambda: other.evals.runs.create(of.id, data_source=source()),
        lambda: other.evals.runs.list(of.id),
        lambda: other.evals.runs.retrieve(run.id, eval_id=of.id),
        lambda: other.evals.runs.output_items.list(run.id, eval_id=of.id),
    ):
        with pytest.raises(NotFoundError):
            ask()
    elsewhere = create(client)
    with pytest.raises(NotFoundError):
        client.evals.runs.retrieve(run.id, eval_id=elsewhere.id)


SIMILAR = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{ sample.output_text }}",
    "reference": "x",
    "evaluation_metric": "chrf",
    "pass_threshold": 0.5,
}
LABEL = {
    "type": "label_model",
    "name": "tone",
    "model": MODEL,
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}


@pytest.mark.parametrize(
    ("criteria", "param", "words"),
    [
        ([CHECK, CHECK], "testing_criteria", "two criteria have the name"),
        ([CHECK | {"reference": "{{ item.answer }}"}], "testing_criteria.0", "item.answer"),
        ([CHECK | {"operation": "is"}], "testing_criteria.0.string_check.operation", "eq"),
        ([SIMILAR | {"pass_threshold": 2}], "testing_criteria.0.text_similarity.pass_threshold", "1"),
        ([SIMILAR | {"model": "all-minilm-l6-v2"}], "testing_criteria.0.text_similarity", "ask a `model`"),
        ([LABEL | {"passing_labels": ["fine"]}], "testing_criteria.0.label_model", "`fine`"),
        ([CHECK, LABEL | {"model": "nobody"}], "model", "does not exist"),
        ([{"type": "python", "name": "x", "source": "1"}], "testing_criteria.0", "python"),
    ],
)
def test_criteria_that_cannot_be_used_are_refused_by_name(client: OpenAI, criteria: Any, param: str, words: str):
    with pytest.raises(APIStatusError) as refused:
        create(client, *criteria)
    assert refused.value.status_code in (400, 404)
    assert refused.value.param == param  # type: ignore[attr-defined]
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"model": "nobody"}, "model"),
        ({"source": {"type": "file_id", "id": "file-none"}}, "data_source.source.id"),
        ({"source": {"type": "file_content", "content": []}}, "data_source.completions.source.file_content.content"),
        ({"sampling_params": {"temperature": 9}}, "data_source.completions.sampling_params.temperature"),
        ({"type": "logs"}, "data_source"),
    ],
)
def test_runs_that_cannot_be_done_are_refused_by_name(client: OpenAI, wrong: Any, param: str):
    of = create(client)
    with pytest.raises(APIStatusError) as refused:
        client.evals.runs.create(of.id, data_source=source(**wrong))
    assert refused.value.param == param  # type: ignore[attr-defined]
    assert client.evals.runs.list(of.id).data == []


def test_rows_without_the_answers_that_are_looked_at_are_refused(client: OpenAI):
    of = create(client)
    with pytest.raises(APIStatusError, match="sample"):
        client.evals.runs.create(of.id, data_source={"type": "jsonl", "source": ROWS})


def test_a_broken_data_file_is_refused_by_its_row(client: OpenAI):
    broken = b'{"item": {"question": "Ahoy?"}}\n{"question": "Ahoy?"}\n'
    with pytest.raises(APIStatusError, match="Row 2"):
        client.files.create(file=("rows.jsonl", io.BytesIO(broken)), purpose="evals")
    training = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 10
    file = client.files.create(file=("train.jsonl", io.BytesIO(training)), purpose="fine-tune")
    of = create(client)
    with pytest.raises(APIStatusError) as refused:
        client.evals.runs.create(of.id, data_source=source(source={"type": "file_id", "id": file.id}))
    assert refused.value.param == "data_source.source.id"  # type: ignore[attr-defined]
