"""Checkpoints: kept under the fence, whole or not at all, and gone when the job has ended."""

from pathlib import Path

import pytest

from contracts.jobs import Job
from store.job_checkpoints import CheckpointRepository
from store.job_rows import LeaseLost
from tests.workers.conftest import CountSpec, Workshop
from tests.workers.test_runner import take_over
from workers.run import JobResult, JobRun


def save(run: JobRun, step: int) -> None:
    folder = run.scratch / f"state-{step}"
    folder.mkdir()
    (folder / "weights").write_text(f"{run.fence}:{step}")
    run.save_checkpoint(folder, step=step, metrics={"train_loss": 1.0 / step})


def break_down_after(*steps: int):
    def work(_spec: CountSpec, run: JobRun) -> JobResult:
        for step in steps:
            save(run, step)
        raise TimeoutError

    return work


class GoesOn:
    """A family that notes from where it would go on."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.weights = ""

    def work(self, _spec: CountSpec, run: JobRun) -> JobResult:
        target = run.scratch / "checkpoint"
        self.step = run.latest_checkpoint(target)
        self.weights = (target / "weights").read_text() if target.exists() else ""
        return JobResult("Done.")


def states(workshop: Workshop, job: Job) -> list[tuple[int, bool]]:
    listed = CheckpointRepository(workshop.database).page(job.id)
    return [(checkpoint.step, checkpoint.artifact is not None) for checkpoint in listed]


def stored(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in (folder / "artifacts" / "checkpoints").rglob("weights"))


def test_a_job_goes_on_from_its_newest_state(workshop: Workshop, tmp_path: Path) -> None:
    job, goes_on = workshop.create_job(), GoesOn()
    workshop.run(job, break_down_after(1, 2, 3, 4))
    assert states(workshop, job) == [(4, True), (3, True), (2, False), (1, False)]
    assert stored(tmp_path) == ["1:3", "1:4"]
    workshop.make_due(job)
    workshop.run(job, goes_on.work)
    assert (goes_on.step, goes_on.weights) == (4, "1:4")


def test_a_job_without_a_state_begins_anew(workshop: Workshop) -> None:
    job, goes_on = workshop.create_job(), GoesOn()
    workshop.run(job, goes_on.work)
    assert (goes_on.step, goes_on.weights) == (None, "")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_state_is_passed_over_for_the_one_before(workshop: Workshop, tmp_path: Path, damage: str) -> None:
    job, goes_on = workshop.create_job(), GoesOn()
    workshop.run(job, break_down_after(5, 10))
    (newest,) = (path for path in (tmp_path / "artifacts").rglob("weights") if path.read_text() == "1:10")
    newest.unlink() if damage == "gone" else newest.write_text("1:1")
    workshop.make_due(job)
    workshop.run(job, goes_on.work)
    assert (goes_on.step, goes_on.weights) == (5, "1:5")
    assert "The checkpoint of step 10 is damaged and is passed over." in workshop.messages(job)


def test_a_worker_that_lost_its_lease_lists_no_checkpoint_and_leaves_nothing(
    workshop: Workshop, tmp_path: Path
) -> None:
    refused: list[bool] = []

    def lose(_spec: CountSpec, run: JobRun) -> JobResult:
        take_over(workshop, run.job)
        with pytest.raises(LeaseLost):
            save(run, 1)
        refused.append(True)
        return JobResult("Too late.")

    job = workshop.create_job()
    workshop.run(job, lose)
    assert refused == [True]
    assert states(workshop, job) == []
    assert stored(tmp_path) == []


@pytest.mark.parametrize("end", ["succeeds", "is cancelled while it waits"])
def test_states_are_deleted_when_the_job_has_ended_and_stay_listed(
    workshop: Workshop, tmp_path: Path, end: str
) -> None:
    job = workshop.create_job()
    workshop.run(job, break_down_after(1, 2))
    assert stored(tmp_path) == ["1:1", "1:2"]
    if end != "succeeds":
        workshop.jobs.cancel(job.id, tenant="acme")
        job_that_tidies = workshop.create_job()
    else:
        workshop.make_due(job)
        job_that_tidies = job
    workshop.run(job_that_tidies, GoesOn().work)
    assert stored(tmp_path) == []
    assert states(workshop, job) == [(2, False), (1, False)]


def test_a_repeated_step_takes_the_place_of_the_damaged_one(workshop: Workshop, tmp_path: Path) -> None:
    job = workshop.create_job()
    workshop.run(job, break_down_after(5, 10))
    workshop.make_due(job)
    workshop.run(job, break_down_after(8))
    assert states(workshop, job) == [(8, True), (5, True)]
    assert stored(tmp_path) == ["1:5", "2:8"]
