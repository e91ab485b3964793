"""Real training on a small random Llama, disturbed: what comes out is what an undisturbed run makes, bit for bit."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import Job
from tests.workers.training_crew import TrainingCrew, make_tiny_base, rows

pytestmark = pytest.mark.timeout(400)
STEPS = {"n_epochs": 16, "batch_size": 4}
TOTAL_STEPS = 160


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def crew(tmp_path: Path, redis_url: str, tiny_base: Path) -> Iterator[TrainingCrew]:
    crew = TrainingCrew(tmp_path / "crew", redis_url, tiny_base)
    yield crew
    crew.stop()


def test_a_job_that_is_killed_and_paused_at_random_steps_ends_as_if_nothing_had_happened(crew: TrainingCrew) -> None:
    crew.start_worker()
    undisturbed = crew.submit(rows(40), **STEPS)
    crew.wait_for_end(undisturbed)

    job = crew.submit(rows(40), **STEPS)
    kill_at, pause_at = random.randint(10, 70), random.randint(75, 140)  # before it and after it has a checkpoint
    crew.wait_for(lambda: crew.last_step(job) >= kill_at)
    crew.workers[-1].kill()
    crew.start_worker()
    crew.wait_for(lambda: crew.last_step(job) >= pause_at)
    crew.pause_and_wait(job)
    paused_at = crew.last_told(job)
    assert list(crew.scratch.iterdir()) == []
    crew.resume(job)
    crew.wait_for_end(job)

    assert f"The training goes on from step {paused_at}." in crew.messages(job)
    assert_alike(crew, job, undisturbed)
    assert not list((crew.folder / "artifacts" / "checkpoints").glob("*/*"))


def assert_alike(crew: TrainingCrew, job: Job, undisturbed: Job) -> None:
    """The same loss at each step, whenever and however often it was made; the same adapter; the same model card."""
    assert crew.now(job).status == crew.now(undisturbed).status == "succeeded"
    expected = dict(crew.steps(undisturbed))
    assert {loss for step, loss in crew.steps(job) if loss != expected[step]} == set()
    assert sorted(expected) == sorted({step for step, _ in crew.steps(job)})
    assert crew.adapter(job) == crew.adapter(undisturbed)
    assert crew.card(job).metrics == crew.card(undisturbed).metrics
    assert crew.now(job).trained_tokens == crew.now(undisturbed).trained_tokens
