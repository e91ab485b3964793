"""A job that several machines train together. Both are this one here, and meet on its loopback device."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT, free_port
from tests.workers.finetune.bench import WORKER_PYTHON, Bench

CHATS = [json.loads(line) for line in (ROOT / "examples" / "ships_computer.jsonl").read_text().splitlines()]


@pytest.mark.timeout(400)
def test_two_machines_learn_as_one_does(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    chosen = {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 5}
    file = bench.add_file(CHATS[:40])
    together = bench.create_job("supervised", "tiny-text", training_file=file, hyperparameters=chosen)
    settings = {
        "FLYWHEEL_WORKER__MACHINES": "2",
        "FLYWHEEL_WORKER__MEETING_POINT": f"127.0.0.1:{free_port()}",
        "FLYWHEEL_WORKER__SCRATCH_DIR": str(tmp_path / "shared"),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [WORKER_PYTHON, "-m", "workers.finetune.follower", "1"]
    with (tmp_path / "follower.log").open("wb") as log:
        follower = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True
        )
        try:
            bench.run(together, timeout_s=350, **settings)
        finally:
            os.killpg(follower.pid, signal.SIGKILL)
            follower.wait()
    # Not created before, since a worker takes the job whose turn it is.
    alone = bench.create_job("supervised", "tiny-text", training_file=file, hyperparameters=chosen)
    bench.run(alone)

    assert "Training in 1 process on each of 2 machines." in bench.messages(together)
    one, two = bench.curve(alone), bench.curve(together)
    assert len(one) == 10
    assert two == pytest.approx(one, abs=5e-3)
