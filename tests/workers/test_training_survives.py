"""Real training on a small random Llama, disturbed: what comes out is what an undisturbed run makes, bit for bit."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import Job
from tests.workers.training_crew import TrainingCrew, make_tiny_base, rows
from workers.finetune.estimate import TOKENS_PER_SECOND

pytestmark = pytest.mark.timeout(900)
STEPS = {"n_epochs": 25, "batch_size": 4}
"""250 steps of 40 rows: so many that a fast machine has not made them all when a pause arrives."""


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def crew(tmp_path: Path, redis_url: str, tiny_base: Path) -> Iterator[TrainingCrew]:
    crew = TrainingCrew(tmp_path / "crew", redis_url, tiny_base)
    yield crew
    crew.stop()


def test_a_job_that_is_killed_and_paused_at_random_steps_ends_as_if_nothing_had_happened(crew: TrainingCrew) -> None:
    undisturbed = crew.submit(rows(40), **STEPS)
    crew.start_worker()
    crew.wait_for(lambda: crew.is_held(undisturbed))
    job = crew.submit(rows(40), **STEPS)
    second = crew.start_worker()
    kill_at, pause_at = random.randint(5, 45), random.randint(50, 85)  # before it and after it has a checkpoint
    crew.wait_for(lambda: crew.last_step(job) >= kill_at)
    second.kill()
    crew.start_worker()
    crew.wait_for(lambda: crew.last_step(job) >= pause_at)
    crew.pause_and_wait(job)
    paused_at = crew.last_told(job)
    crew.resume(job)
    crew.wait_for_end(undisturbed)
    crew.wait_for_end(job)

    assert f"The training goes on from step {paused_at}." in crew.messages(job)
    assert_alike(crew, job, undisturbed)
    assert not list((crew.folder / "artifacts" / "checkpoints").glob("*/*"))
    crew.wait_for(lambda: list(crew.scratch.iterdir()) == [], timeout_s=5)


@pytest.mark.long
def test_a_full_store_ends_no_training_and_its_adapter_arrives_once_there_is_room(
    crew: TrainingCrew, small_disk: Path, redis_url: str, tiny_base: Path
) -> None:
    settings = {"FLYWHEEL_ARTIFACTS_URL": f"file://{small_disk}", "FLYWHEEL_WORKER__MAX_ATTEMPTS": "20"}
    tight = TrainingCrew(crew.folder / "tight", redis_url, tiny_base, settings=settings)
    tight.start_worker()
    try:
        undisturbed = tight.submit(rows(40), **STEPS)
        tight.wait_for_end(undisturbed)
        job = tight.submit(rows(40), **STEPS)
        tight.wait_for(lambda: tight.last_step(job) >= 1)
        filler = fill(small_disk)
        tight.wait_for(lambda: any("Trying again" in message for message in tight.messages(job)))
        filler.unlink()
        tight.wait_for_end(job)
        told = tight.messages(job)
        assert any(message.startswith("No checkpoint was saved at step") for message in told)
        assert any(message.startswith("There was no room left on a disk. Trying again in") for message in told)
        assert_alike(tight, job, undisturbed)
    finally:
        tight.stop()


def test_a_job_without_room_is_refused_before_it_trains(redis_url: str, tmp_path: Path, tiny_base: Path) -> None:
    crew = TrainingCrew(
        tmp_path / "crew", redis_url, tiny_base, settings={"FLYWHEEL_WORKER__ARTIFACT_QUOTA_BYTES": "50000"}
    )
    crew.start_worker()
    try:
        ended = crew.wait_for_end(crew.submit(rows(40), **STEPS))
        assert ended.error is not None
        assert ended.error.code == "quota_exceeded"
        assert "Of the quota of 50 kB" in ended.error.message
        assert not any(message.startswith("Training on") for message in crew.messages(ended))
    finally:
        crew.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as out:
        try:
            while True:
                out.write(b"x" * 65536)
                out.flush()
        except OSError:
            return filler


def assert_alike(crew: TrainingCrew, job: Job, undisturbed: Job) -> None:
    """The same loss at each step, whenever and however often it was made; the same adapter; the same model card."""
    assert crew.now(job).status == crew.now(undisturbed).status == "succeeded"
    expected = dict(crew.steps(undisturbed))
    assert {loss for step, loss in crew.steps(job) if loss != expected[step]} == set()
    assert sorted(expected) == sorted({step for step, _ in crew.steps(job)})
    assert crew.adapter(job) == crew.adapter(undisturbed)
    figures, expected_figures = (dict(crew.card(each).metrics) for each in (job, undisturbed))
    speeds = [each.pop(TOKENS_PER_SECOND) for each in (figures, expected_figures)]
    assert all(speed > 0 for speed in speeds)
    assert figures == expected_figures
    assert crew.now(job).trained_tokens == crew.now(undisturbed).trained_tokens
