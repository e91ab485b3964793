import io
import threading
import time
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import update
from structlog.testing import capture_logs

from contracts.jobs import Job
from contracts.models import ModelCard
from store.database import Database
from store.tables import JobRow
from tests.workers.conftest import CountSpec, Workshop
from workers.run import JobFailed, JobResult, JobRun

SOON_S = 3.0
TRACE = "11112222333344445555666677778888"


def card(name: str) -> ModelCard:
    return ModelCard(
        name=name,
        kind="adapter",
        task="generate",
        parent="base",
        tenant="acme",
        weights="models/x",
        digest="sha256:x",
        context_length=64,
        created_at=1,
    )


def count(spec: CountSpec, run: JobRun) -> JobResult:
    for step in range(1, spec.to + 1):
        run.metrics(f"step {step}", {"step": step}, estimated_finish_at=1000 + step)
    return JobResult("Counted.", card("ft:counted"), trained_tokens=spec.to)


class UntilStopped:
    """A family that works until `run.check` raises; `began` tells that it works."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.scratch = Path()

    def work(self, _spec: CountSpec, run: JobRun) -> JobResult:
        self.scratch = run.scratch
        run.resources.artifacts.upload_folder(_folder_with_a_file(run.scratch), run.artifact_folder)
        self.began.set()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            run.check()
            time.sleep(0.01)
        return JobResult("Nobody stopped me.", card("ft:unwanted"))


def _folder_with_a_file(scratch: Path) -> Path:
    folder = scratch / "adapter"
    folder.mkdir()
    (folder / "weights").write_text("w")
    return folder


def test_a_job_that_succeeds_tells_its_steps_and_registers_its_model(workshop: Workshop) -> None:
    job = workshop.create_job(to=2)
    workshop.run(job, count)
    ended = workshop.now(job)
    assert (ended.status, ended.result_model, ended.trained_tokens) == ("succeeded", "ft:counted", 2)
    assert ended.estimated_finish_at == 1002
    assert workshop.messages(job)[1:] == ["The job started.", "step 1", "step 2", "Counted."]
    assert workshop.models.get("ft:counted") is not None
    assert [(news.kind, news.id) for news in workshop.announced] == [("model", "ft:counted")]


def test_a_model_with_a_file_that_could_run_code_is_not_registered(workshop: Workshop) -> None:
    def make_pickle(spec: CountSpec, run: JobRun) -> JobResult:
        run.resources.artifacts.write(f"{run.artifact_folder}/pytorch_model.bin", io.BytesIO(b"x"))
        return JobResult("Made.", card("ft:pickle").model_copy(update={"weights": run.artifact_folder}))

    job = workshop.create_job(to=1)
    workshop.run(job, make_pickle)
    ended = workshop.now(job)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "model_refused")
    assert "pytorch_model.bin" in ended.error.message
    assert workshop.models.get("ft:pickle") is None


def test_an_expected_failure_ends_the_job_with_its_words(workshop: Workshop) -> None:
    def fail(spec: CountSpec, run: JobRun) -> JobResult:
        raise JobFailed("bad_row", "Row 7 is too long.", param="training_file")

    job = workshop.create_job()
    workshop.run(job, fail)
    ended = workshop.now(job)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.model_dump() == {"code": "bad_row", "message": "Row 7 is too long.", "param": "training_file"}
    assert workshop.messages(job)[-1] == "Row 7 is too long."


def test_an_unexpected_failure_leaks_nothing_and_is_logged(workshop: Workshop) -> None:
    def break_down(spec: CountSpec, run: JobRun) -> JobResult:
        raise OSError(f"cannot open /secret/path with password hunter2 in {run.scratch}")

    job = workshop.create_job()
    with capture_logs() as logs:
        workshop.run(job, break_down)
    assert [(line["log_level"], line["exc_info"]) for line in logs if "unexpectedly" in line["event"]] == [
        ("error", True)
    ]
    ended = workshop.now(job)
    assert ended.error is not None
    assert ended.error.code == "internal_error"
    told = ended.model_dump_json() + "".join(event.model_dump_json() for event in workshop.jobs.events(job.id))
    assert "hunter2" not in told
    assert "/" not in ended.error.message


def test_a_job_of_an_unknown_family_fails(workshop: Workshop) -> None:
    job = workshop.create_job("test.unknown")
    workshop.run(job, count)
    error = workshop.now(job).error
    assert error is not None
    assert error.code == "unknown_job_family"


def test_a_cancelled_job_stops_soon_and_leaves_nothing(workshop: Workshop) -> None:
    family, job = UntilStopped(), workshop.create_job()
    running = workshop.start(job, family.work)
    assert family.began.wait(SOON_S)
    workshop.jobs.cancel(job.id, tenant="acme")
    running.result(SOON_S)
    assert workshop.now(job).status == "cancelled"
    assert workshop.models.get("ft:unwanted") is None
    assert not family.scratch.exists()
    with pytest.raises(FileNotFoundError):
        list(workshop.artifacts.read(f"models/{job.id}/1/weights"))


def test_a_worker_that_lost_its_lease_stops_and_registers_nothing(workshop: Workshop) -> None:
    family, job = UntilStopped(), workshop.create_job()
    running = workshop.start(job, family.work)
    assert family.began.wait(SOON_S)
    fence = take_over(workshop, job)
    running.result(SOON_S)
    assert workshop.now(job).status == "running"
    assert workshop.models.get("ft:unwanted") is None
    workshop.jobs.renew(job.id, fence, lease_s=30)


def test_a_lease_lost_at_the_last_moment_registers_nothing(workshop: Workshop) -> None:
    def lose(spec: CountSpec, run: JobRun) -> JobResult:
        take_over(workshop, run.job)
        return JobResult("Too late.", card("ft:too-late"))

    job = workshop.create_job()
    workshop.run(job, lose)
    assert workshop.now(job).status == "running"
    assert workshop.models.get("ft:too-late") is None
    assert workshop.announced == []


def test_a_worker_that_stops_gives_the_job_back_and_another_one_runs_it(workshop: Workshop, redis_url: str) -> None:
    family, job = UntilStopped(), workshop.create_job(to=1)
    running = workshop.start(job, family.work)
    assert family.began.wait(SOON_S)
    workshop.must_stop = True
    running.result(SOON_S)
    assert workshop.now(job).status == "queued"
    with Redis.from_url(redis_url) as redis:
        assert redis.llen("cpu") == 1

    workshop.must_stop = False
    workshop.run(job, count)
    assert workshop.now(job).status == "succeeded"


def test_of_two_messages_for_one_job_one_acts(workshop: Workshop) -> None:
    acts = []

    def act_slowly(spec: CountSpec, run: JobRun) -> JobResult:
        acts.append(run.fence)
        time.sleep(0.3)
        return JobResult("Done.")

    job = workshop.create_job()
    for running in [workshop.start(job, act_slowly) for _ in range(3)]:
        running.result(SOON_S)
    workshop.run(job, act_slowly)
    assert acts == [1]
    assert workshop.messages(job).count("Done.") == 1


def test_the_heartbeat_keeps_the_lease_while_a_job_is_longer_than_it(workshop: Workshop) -> None:
    def outlive_the_lease(spec: CountSpec, run: JobRun) -> JobResult:
        time.sleep(2.2)
        assert workshop.jobs.acquire(run.job.id, lease_s=1) is None
        return JobResult("Done.")

    job = workshop.create_job()
    workshop.run(job, outlive_the_lease, lease_s=1.0)
    assert workshop.now(job).status == "succeeded"


def test_a_job_that_kills_its_workers_is_given_up(workshop: Workshop, database: Database) -> None:
    job = workshop.create_job()
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(attempts=3))
    workshop.run(job, count)
    error = workshop.now(job).error
    assert error is not None
    assert error.code == "too_many_attempts"


def test_the_span_of_a_job_continues_the_trace_of_its_creator(workshop: Workshop) -> None:
    job = workshop.create_job(trace_context={"traceparent": f"00-{TRACE}-1111222233334444-01"})
    workshop.run(job, count)
    (span,) = workshop.spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.attributes is not None
    assert span.attributes["flywheel.job.id"] == job.id
    assert span.attributes["flywheel.job.family"] == "test.count"
    assert span.attributes["flywheel.job.outcome"] == "succeeded"


def take_over(workshop: Workshop, job: Job) -> int:
    """What happens when a worker is so slow that its lease runs out and another one takes the job."""
    with workshop.database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(lease_expires_at=int(time.time()) - 5))
    taken = workshop.jobs.acquire(job.id, lease_s=30)
    assert taken is not None
    return taken[1]
