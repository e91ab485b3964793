"""The faults on the real base, SmolLM2-135M. Minutes each; `make test-long` runs them.

The weights are those that an engine of the local stack makes once (inference.weights).
"""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.home import environment_python
from contracts.settings import Settings
from tests.processes import ROOT
from tests.valkey_process import ValkeyProcess
from tests.workers.test_training_survives import assert_alike
from tests.workers.training_crew import TENANT, TrainingCrew, child_of, rows

pytestmark = [pytest.mark.long, pytest.mark.real_stack, pytest.mark.timeout(1200)]
MODEL = "smollm2-135m-instruct"
STEPS = {"n_epochs": 6, "batch_size": 4}
SLOW = {"timeout_s": 600.0}
KILLS = 3


@pytest.fixture(scope="session")
def smollm() -> Path:
    folder = Settings().engine.weights_dir.expanduser() / MODEL
    if not folder.is_dir():
        subprocess.run([str(environment_python("engine")), "-m", "inference.weights", MODEL], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def valkey_of_its_own(tmp_path: Path) -> Iterator[ValkeyProcess]:
    valkey = ValkeyProcess(tmp_path / "valkey")
    yield valkey
    valkey.stop()


@pytest.fixture
def crew(tmp_path: Path, valkey_of_its_own: ValkeyProcess, smollm: Path) -> Iterator[TrainingCrew]:
    settings = {"FLYWHEEL_WORKER__CHECKPOINT_EVERY_S": "6"}
    crew = TrainingCrew(tmp_path / "crew", valkey_of_its_own.url, smollm, settings=settings)
    yield crew
    crew.stop()


def test_workers_killed_at_random_steps_and_a_minute_without_redis_change_nothing(
    crew: TrainingCrew, valkey_of_its_own: ValkeyProcess
) -> None:
    crew.start_worker()
    undisturbed = crew.submit(rows(24), **STEPS)
    crew.wait_for_end(undisturbed, **SLOW)

    job = crew.submit(rows(24), **STEPS)
    for kill_at in sorted(random.sample(range(3, 26), KILLS)):
        crew.wait_for(lambda at=kill_at: crew.last_step(job) >= at, **SLOW)
        crew.workers[-1].kill()
        print(f"killed after step {crew.last_told(job)}")
        crew.start_worker()
    crew.start_worker()  # two workers, and a second message
    crew.enqueue(job)
    crew.wait_for(lambda: crew.last_step(job) >= 27, **SLOW)
    valkey_of_its_own.stop()
    began = time.monotonic()
    following = crew.submit(rows(24), enqueue=False, n_epochs=1, batch_size=4)
    time.sleep(60)
    print(f"without Redis for {time.monotonic() - began:.0f} s; the job is {crew.now(job).status}")
    valkey_of_its_own.start()
    crew.wait_for_end(job, **SLOW)
    print("\n".join(crew.messages(job)))
    assert_alike(crew, job, undisturbed)
    assert sum(message.startswith("The job succeeded") for message in crew.messages(job)) == 1
    crew.wait_for_end(following, **SLOW)
    assert crew.now(following).status == "succeeded"


def test_a_cancellation_in_the_middle_of_a_long_step_frees_the_worker_in_two_seconds(crew: TrainingCrew) -> None:
    worker = crew.start_worker()
    took: list[float] = []
    for _ in range(3):
        job = crew.submit(rows(200, letters=1500), n_epochs=2, batch_size=64)
        crew.wait_for(lambda job=job: any(text.startswith("Training on") for text in crew.messages(job)), **SLOW)
        time.sleep(random.uniform(12, 20))  # past the loading, in the first step, which takes minutes
        child = child_of(worker)
        assert child.cpu_percent(0.5) > 30
        began = time.monotonic()
        crew.jobs.cancel(job.id, tenant=TENANT)
        psutil.wait_procs([child], timeout=5)
        took.append(time.monotonic() - began)
        assert crew.steps(job) == []
    print(f"cancelled in {[round(seconds, 2) for seconds in took]} s")
    assert max(took) < 2
