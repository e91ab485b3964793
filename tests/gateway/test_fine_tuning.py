"""/v1/fine_tuning/jobs, up to the queue; what workers do is tested with them."""

import json
from pathlib import Path

import pytest

from contracts.fine_tuning import SupervisedSpec
from store.job_checkpoints import CheckpointRepository
from store.jobs import JobRepository
from tests.gateway.conftest import MODEL, Serving, model_card
from tests.gateway.test_files import ROW, jsonl, upload


@pytest.fixture
async def client(serving: Serving):
    async with serving.gateway.client() as client:
        yield client


@pytest.fixture
async def file_id(client) -> str:
    return (await upload(client, jsonl(*[ROW] * 10))).json()["id"]


async def test_a_job_is_a_row_and_its_id_is_on_the_queue(serving: Serving, client, file_id: str, redis_sync):
    created = await client.post(
        "/v1/fine_tuning/jobs",
        json={
            "model": MODEL,
            "training_file": file_id,
            "suffix": "sea",
            "seed": 7,
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        },
    )
    job = created.json()
    stored = JobRepository(serving.gateway.database).get(job["id"])
    message = json.loads(redis_sync.lindex("cpu", 0))

    assert created.status_code == 200
    assert (job["object"], job["status"], job["model"]) == ("fine_tuning.job", "queued", MODEL)
    spec = SupervisedSpec.model_validate(stored.spec)
    assert (spec.training_file, spec.suffix, spec.seed, spec.hyperparameters.n_epochs) == (file_id, "sea", 7, 2)
    assert spec.training_file_digest.startswith("sha256:")
    assert stored.trace_context["traceparent"].startswith("00-")
    assert message["headers"]["id"] == job["id"]
    assert message["headers"]["task"] == "flywheel.run_job"


async def test_a_jobs_events_are_read_newest_first_and_paged(serving: Serving, client, file_id: str):
    job = (await client.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})).json()
    jobs = JobRepository(serving.gateway.database)
    _, fence = jobs.acquire(job["id"], lease_s=30)
    for step in range(3):
        jobs.add_event(job["id"], fence, f"Step {step}", type="metrics", data={"step": step, "train_loss": 1.0})

    path = f"/v1/fine_tuning/jobs/{job['id']}/events"
    page = (await client.get(path, params={"limit": 2})).json()
    rest = (await client.get(path, params={"after": page["data"][-1]["id"]})).json()

    assert [event["message"] for event in page["data"]] == ["Step 2", "Step 1"]
    assert page["has_more"] is True
    assert page["data"][0]["data"] == {"step": 2, "train_loss": 1.0}
    assert next(event["message"] for event in rest["data"]) == "Step 0"


async def test_a_paused_job_waits_for_its_resume(serving: Serving, client, file_id: str, redis_sync):
    job = (await client.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})).json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    jobs = JobRepository(serving.gateway.database)

    assert (await client.post(f"{path}/pause")).json()["status"] == "paused"
    assert (await client.post(f"{path}/pause")).json()["status"] == "paused"
    assert jobs.acquire(job["id"], lease_s=30) is None
    redis_sync.delete("cpu")
    assert (await client.post(f"{path}/resume")).json()["status"] == "queued"
    assert redis_sync.llen("cpu") == 1
    refused = await client.post(f"{path}/resume")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "fine_tuning_job_id")
    assert jobs.acquire(job["id"], lease_s=30) is not None

    await client.post(f"{path}/cancel")
    assert (await client.post(f"{path}/pause")).status_code == 400


async def test_checkpoints_are_listed_newest_first_and_paged(serving: Serving, client, file_id: str):
    job = (
        await client.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id, "suffix": "sea"})
    ).json()
    _, fence = JobRepository(serving.gateway.database).acquire(job["id"], lease_s=30)
    checkpoints = CheckpointRepository(serving.gateway.database)
    for step in (5, 10, 15):
        metrics = {"step": float(step), "train_loss": 1.5}
        checkpoints.add(job["id"], fence, step=step, artifact=f"c/{step}", digest="sha256:x", bytes=1, metrics=metrics)

    path = f"/v1/fine_tuning/jobs/{job['id']}/checkpoints"
    page = (await client.get(path, params={"limit": 2})).json()
    rest = (await client.get(path, params={"after": page["last_id"]})).json()

    assert [each["step_number"] for each in page["data"]] == [15, 10]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert [each["step_number"] for each in rest["data"]] == [5]
    first = page["data"][0]
    assert (first["object"], first["fine_tuning_job_id"]) == ("fine_tuning.job.checkpoint", job["id"])
    assert first["fine_tuned_model_checkpoint"].endswith(":ckpt-step-15")
    assert first["metrics"] == {"step": 15.0, "train_loss": 1.5}


async def test_a_cancelled_job_stays_cancelled(serving: Serving, client, file_id: str):
    job = (await client.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})).json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"

    cancelled = (await client.post(f"{path}/cancel")).json()

    assert cancelled["status"] == "cancelled"
    assert (await client.post(f"{path}/cancel")).json()["status"] == "cancelled"
    assert JobRepository(serving.gateway.database).acquire(job["id"], lease_s=30) is None


async def test_another_tenants_job_does_not_exist(serving: Serving, client, file_id: str):
    job = (await client.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})).json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    async with serving.gateway.client() as other:
        answers = [await other.get(f"{path}{rest}") for rest in ("", "/events", "/checkpoints", "/events?stream=true")]
        answers += [await other.post(f"{path}/{act}") for act in ("cancel", "pause", "resume")]
        others_file = await other.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})
        listed = (await other.get("/v1/fine_tuning/jobs")).json()["data"]

    assert [answer.status_code for answer in answers] == [404] * 7
    assert others_file.json()["error"]["param"] == "training_file"
    assert listed == []
    assert (await client.get(path)).json()["status"] == "queued"


async def test_a_jobs_queue_and_priority_are_in_its_row(serving: Serving, client, file_id: str, redis_sync):
    body = {"model": MODEL, "training_file": file_id, "priority": 7}
    body |= {"method": {"type": "supervised", "supervised": {"hyperparameters": {"adaptation": "qlora"}}}}
    job = (await client.post("/v1/fine_tuning/jobs", json=body)).json()
    stored = JobRepository(serving.gateway.database).get(job["id"])

    assert (stored.queue, stored.priority) == ("gpu", 7)
    assert (redis_sync.llen("gpu"), redis_sync.llen("cpu")) == (1, 0)
    refused = await client.post("/v1/fine_tuning/jobs", json=body | {"priority": -1})
    assert refused.json()["error"]["param"] == "priority"


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_WORKER__ARTIFACT_QUOTA_BYTES": "1000000"}], indirect=True)
async def test_a_job_that_its_tenant_has_no_room_for_is_refused(
    serving: Serving, redis_sync, redis_url: str, tmp_path: Path
):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 3_000_000)
    serving.register(redis_sync, model_card("large", weights=str(tmp_path)))
    async with serving.gateway.client() as client:
        file = (await upload(client, jsonl(*[ROW] * 10))).json()["id"]
        wanted = {"training_file": file}
        refused = await client.post("/v1/fine_tuning/jobs", json=wanted | {"model": "large"})
        assert (await client.post("/v1/fine_tuning/jobs", json=wanted | {"model": MODEL})).status_code == 200

    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "insufficient_quota")
    assert "The job needs about 3 MB" in error["message"]
    assert "Of the quota of 1 MB" in error["message"]
