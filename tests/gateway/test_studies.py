"""/v1/flywheel/studies, up to the queue and from what a worker told; what workers do is tested with them."""

import io
import json
from typing import Any

import pytest

from contracts.studies import REPORT_FIELD, STUDY_FAMILY, VARIANT_FIELD, StudyReport, StudySpec, VariantResult
from store.jobs import JobRepository
from tests.gateway.conftest import MODEL, Serving, model_card
from tests.gateway.test_files import ROW, jsonl, upload
from tests.workers.compress.test_frontier import BASE, BEATEN, FAST, MEASUREMENT

PATH = "/v1/flywheel/studies"
QUANTISED = {"name": "w8a8", "technique": "quantise", "scheme": "w8a8"}


@pytest.fixture
async def client(serving: Serving):
    async with serving.gateway.client() as client:
        yield client


@pytest.fixture
async def file_id(client) -> str:
    return (await upload(client, jsonl(*[ROW] * 10))).json()["id"]


async def created(client, file_id: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"model": MODEL, "conversations_file": file_id, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_study_is_a_job_on_the_queue_with_its_files_digests(serving: Serving, client, file_id: str, redis_sync):
    study = await created(client, file_id, target="memory", constraints={"min_score": 0.3}, variants=[QUANTISED])
    stored = JobRepository(serving.gateway.database).get(study["id"])
    assert (study["object"], study["status"], study["model"]) == ("study", "queued", MODEL)
    assert stored.family == STUDY_FAMILY
    spec = StudySpec.model_validate(stored.spec)
    assert (spec.target, spec.constraints.min_score, spec.variants[0].name) == ("memory", 0.3, "w8a8")
    assert spec.file_digests["conversations_file"].startswith("sha256:")
    assert json.loads(redis_sync.lindex("cpu", 0))["headers"]["id"] == study["id"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"conversations_file": "file-none"}, 400, "conversations_file"),
        ({"text_file": "CHATS"}, 400, "text_file"),
        ({"target": "beauty"}, 400, "target"),
        ({"constraints": {"min_score": 2}}, 400, "constraints.min_score"),
        ({"measurement": {"streams": [8]}}, 400, "measurement.streams"),
        ({"variants": [QUANTISED, QUANTISED]}, 400, "variants"),
        ({"variants": [QUANTISED | {"of": "student"}]}, 400, "variants"),
        ({"variants": [QUANTISED | {"scheme": "w2"}]}, 400, "variants.0.quantise.scheme"),
        (
            {"variants": [{"name": "a", "technique": "adapter", "adapter": MODEL, "merged": True}]},
            400,
            "variants.0.adapter",
        ),
        ({"wish": 1}, 400, "wish"),
    ],
)
async def test_bad_input_names_its_field(client, file_id: str, fields: dict, status: int, param: str):
    fields = {name: file_id if value == "CHATS" else value for name, value in fields.items()}
    answer = await client.post(PATH, json={"model": MODEL, "conversations_file": file_id} | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_models_that_generate_no_text_are_refused(serving: Serving, client, file_id: str, embedder):
    answer = await client.post(PATH, json={"model": "all-minilm-l6-v2", "conversations_file": file_id})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_what_is_known_of_variants_is_told_while_the_study_runs(serving: Serving, client, file_id: str):
    study = await created(client, file_id)
    jobs = JobRepository(serving.gateway.database)
    _, fence = jobs.acquire(study["id"], lease_s=30)
    for variant in (BASE, FAST):
        jobs.add_event(
            study["id"], fence, variant.name, type="metrics", data={VARIANT_FIELD: variant.model_dump(mode="json")}
        )
    told = (await client.get(f"{PATH}/{study['id']}")).json()
    assert [variant["name"] for variant in told["variants"]] == ["baseline", "fast"]
    assert (told["report"], told["recommendation"], told["status"]) == (None, None, "running")
    assert (await client.get(f"{PATH}/{study['id']}/report")).status_code == 404
    events = (await client.get(f"{PATH}/{study['id']}/events")).json()["data"]
    assert events[0]["message"] == "fast"


async def test_studies_of_others_and_other_jobs_do_not_exist(serving: Serving, client, file_id: str):
    study = await created(client, file_id)
    other = JobRepository(serving.gateway.database).create(
        family="finetune.supervised", tenant="default", spec={}, trace_context={}
    )
    stranger = serving.gateway.new_key(tenant="stranger")
    async with serving.gateway.client(stranger.secret) as theirs:
        for path in (f"{PATH}/{study['id']}", f"{PATH}/{study['id']}/events", f"{PATH}/{study['id']}/report"):
            refused = await theirs.get(path)
            assert (refused.status_code, refused.json()["error"]["param"]) == (404, "study_id")
        assert (await theirs.post(f"{PATH}/{study['id']}/cancel")).status_code == 404
        assert (await theirs.get(PATH)).json()["data"] == []
    assert (await client.get(f"{PATH}/{other.id}")).status_code == 404
    assert [one["id"] for one in (await client.get(PATH)).json()["data"]] == [study["id"]]


async def test_a_study_is_cancelled(client, file_id: str):
    study = await created(client, file_id)
    assert (await client.post(f"{PATH}/{study['id']}/cancel")).json()["status"] == "cancelled"
    assert (await client.post(f"{PATH}/{study['id']}/cancel")).json()["status"] == "cancelled"


async def test_a_study_rests_until_it_is_resumed(client, file_id: str):
    path = f"{PATH}/{(await created(client, file_id))['id']}"
    assert (await client.post(f"{path}/pause")).json()["status"] == "paused"
    assert (await client.post(f"{path}/resume")).json()["status"] == "queued"
    refused = await client.post(f"{path}/resume")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "study_id")


async def test_a_study_is_no_fine_tuning_job(client, file_id: str):
    path = f"/v1/fine_tuning/jobs/{(await created(client, file_id))['id']}"
    for way in ("cancel", "pause", "resume"):
        assert (await client.post(f"{path}/{way}")).status_code == 404
    assert (await client.get(f"{path}/checkpoints")).status_code == 404
    assert (await client.get(f"{path}/events")).status_code == 200


@pytest.fixture
async def ended(serving: Serving, client, file_id: str) -> StudyReport:
    """A study that a worker ended, with one variant whose weights were kept."""
    study = await created(client, file_id)
    jobs = JobRepository(serving.gateway.database)
    job, fence = jobs.acquire(study["id"], lease_s=30)
    folder = f"models/{job.id}/{fence}"
    card = model_card(
        f"ft:{MODEL}:{job.tenant}:fast:1",
        kind="full",
        parent=MODEL,
        tenant=job.tenant,
        weights=f"{folder}/fast",
        on_demand=True,
        job=job.id,
        metrics={"score": 0.49},
    )
    kept: VariantResult = FAST.model_copy(update={"card": card, "on_frontier": True})
    report = StudyReport.model_validate(
        {
            "model": MODEL,
            "target": "quality",
            "constraints": {},
            "measurement": MEASUREMENT,
            "machine": "a machine",
            "variants": (BASE, kept, BEATEN),
            "frontier": ("baseline", "fast"),
            "recommendation": {"variant": "baseline", "reason": "It is the best."},
            "artifact": folder,
            "seconds": 60,
        }
    )
    artifacts = serving.gateway.artifacts
    artifacts.write(f"{folder}/report/report.html", io.BytesIO(b"<html>A study</html>"))
    artifacts.write(f"{folder}/fast/config.json", io.BytesIO(b"{}"))
    jobs.add_event(job.id, fence, "done", type="metrics", data={REPORT_FIELD: report.model_dump(mode="json")})
    jobs.finish(job.id, fence, "succeeded", message="done")
    return report


async def test_a_study_that_ended_is_told_with_its_report(client, ended: StudyReport):
    study_id = ended.artifact.split("/")[1]
    told = (await client.get(f"{PATH}/{study_id}")).json()
    assert StudyReport.model_validate(told["report"]) == ended
    assert told["frontier"] == ["baseline", "fast"]
    page = await client.get(f"{PATH}/{study_id}/report")
    assert (page.text, page.headers["content-type"]) == ("<html>A study</html>", "text/html; charset=utf-8")
    refused = await client.post(f"{PATH}/{study_id}/cancel")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "study_id")
    missing = await client.get(f"{PATH}/{study_id}/report", params={"form": "png"})
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "study_id")


async def test_a_kept_variant_becomes_a_model_when_it_is_asked_for(client, ended: StudyReport):
    path = f"{PATH}/{ended.artifact.split('/')[1]}/models"
    kept = (await client.post(path, json={"variant": "fast"})).json()
    model = (await client.get(f"/v1/models/{kept['id']}")).json()
    assert (model["state"], model["parent"], model["metrics"]) == ("on_demand", MODEL, {"score": 0.49})
    for variant in ("beaten", "nobody"):
        refused = await client.post(path, json={"variant": variant})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "variant")
