"""`flywheel jobs`, against a real gateway."""

import threading
import time
from collections.abc import Callable

import pytest

from contracts.fine_tuning import SupervisedSpec
from contracts.jobs import Job
from store.job_checkpoints import CheckpointRepository
from store.jobs import JobRepository
from tests.cli.conftest import Flywheel
from tests.gateway_process import GatewayProcess

TENANT = "sailors"


@pytest.fixture
def jobs(gateway: GatewayProcess) -> JobRepository:
    return JobRepository(gateway.database)


@pytest.fixture
def job(jobs: JobRepository) -> Job:
    spec = SupervisedSpec(base_model="base", training_file="file-1", training_file_digest="sha256:x")
    return jobs.create(family="finetune.supervised", tenant=TENANT, spec=spec.model_dump(mode="json"), trace_context={})


@pytest.fixture
def run(flywheel: Flywheel, gateway: GatewayProcess) -> Callable[..., str]:
    secret = gateway.new_key(tenant=TENANT).secret

    def run(*arguments: str) -> str:
        done = flywheel(*arguments, FLYWHEEL_BASE_URL=gateway.base_url, FLYWHEEL_API_KEY=secret)
        return done.stdout + done.stderr

    return run


def test_a_job_is_listed_paused_resumed_and_cancelled(run: Callable[..., str], job: Job) -> None:
    assert "paused" in run("jobs", "pause", job.id)
    listed = run("jobs", "list")
    assert job.id in listed
    assert "paused" in listed
    assert "queued" in run("jobs", "resume", job.id)
    assert "cancelled" in run("jobs", "cancel", job.id)
    assert "has already ended" in run("jobs", "pause", job.id)


def test_a_job_is_shown_with_its_checkpoint_and_its_last_events(
    run: Callable[..., str], gateway: GatewayProcess, jobs: JobRepository, job: Job
) -> None:
    _, fence = jobs.acquire(job.id, lease_s=60) or (None, 0)
    jobs.add_event(job.id, fence, "Training on 10 examples.")
    CheckpointRepository(gateway.database).add(
        job.id, fence, step=7, artifact="c", digest="sha256:x", bytes=1, metrics={}
    )
    shown = run("jobs", "show", job.id)
    assert "running" in shown
    assert "step 7" in shown
    assert "Training on 10 examples." in shown


def test_a_job_is_watched_to_its_end(run: Callable[..., str], jobs: JobRepository, job: Job) -> None:
    def work() -> None:
        time.sleep(2)
        _, fence = jobs.acquire(job.id, lease_s=60) or (None, 0)
        data = {"step": 1, "total_steps": 2, "train_loss": 1.25}
        jobs.add_event(job.id, fence, "Step 1/2", type="metrics", data=data)
        measured = {"step": 1, "total_steps": 2, "valid_loss": 1.5}
        jobs.add_event(job.id, fence, "Step 1/2: validation loss 1.5000", type="metrics", data=measured)
        jobs.finish(job.id, fence, "succeeded", message="The job succeeded.")

    worker = threading.Thread(target=work)
    worker.start()
    shown = run("jobs", "watch", job.id)
    worker.join()
    assert "step 1/2  loss 1.250" in shown
    assert shown.index("Created the job") < shown.index("step 1/2") < shown.index("The job succeeded.")
    assert shown.splitlines().count("  step 1/2  loss 1.250") == 1
    assert "  Step 1/2: validation loss 1.5000" in shown.splitlines()
    assert "  step 1/2" not in shown.splitlines()
    assert f"Job {job.id} is succeeded." in shown
