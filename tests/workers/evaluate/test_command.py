"""`flywheel eval` as a person uses it, with a worker beside it."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from store.eval_schedules import EvalScheduleRepository
from tests.gateway.conftest import wait_until
from tests.workers.evaluate.conftest import Evaluations
from workers.evaluate.families import evaluate_run

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def worker(evaluations: Evaluations) -> Iterator[None]:
    """Takes up what is queued until the test ends."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for job in evaluations.workshop.jobs.page(tenant=evaluations.key.key.tenant, family="evaluate."):
                if job.status == "queued":
                    evaluations.workshop.run(job, evaluate_run)
            time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def command(evaluations: Evaluations, worker: None, tmp_path: Path) -> Command:
    return lambda *arguments: evaluations.command(tmp_path / "home", *arguments)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    says_something = {"type": "length", "name": "says something", "minimum": 1, "maximum": 100}
    told = {"name": "sums", "data": "sums.jsonl", "prompt": "{{ item.question }}", "criteria": [says_something]}
    file = tmp_path / "sums.yaml"
    file.write_text(yaml.safe_dump(told))
    return file


def test_a_file_is_evaluated_compared_with_its_last_run_and_reported(command: Command, spec: Path, tmp_path: Path):
    first = command("run", str(spec), "--report", str(tmp_path / "report.html"))
    assert first.returncode == 0, first.stderr
    assert "6 of 6 rows pass" in first.stdout
    assert "<svg" in (tmp_path / "report.html").read_text()
    second = command("run", str(spec), "--baseline", "last", "--fail-if-worse")
    assert second.returncode == 0, second.stderr
    assert "+0.0000 (+0.0000 to +0.0000)" in second.stdout
    listed = command("list").stdout
    assert listed.count("sums") == 2
    run_id = next(word for word in listed.split() if word.startswith("evalrun_"))
    assert "6 of 6 rows pass" in command("show", run_id).stdout


def test_a_model_that_got_worse_fails_the_command(command: Command, spec: Path, evaluations: Evaluations):
    assert command("run", str(spec)).returncode == 0
    evaluations.serving.engine.behaviour(tokens=0)
    worse = command("run", str(spec), "--baseline", "last", "--fail-if-worse")
    assert worse.returncode == 3, worse.stdout
    assert "Surely worse than the baseline: says something." in worse.stderr


def test_a_schedule_is_made_and_the_history_of_its_runs_is_seen(
    command: Command, spec: Path, evaluations: Evaluations, tmp_path: Path
):
    made = command("schedule", "create", str(spec), "--every", "1h", "--p-value", "0.05")
    assert made.returncode == 0, made.stderr
    schedule_id = next(word for word in made.stdout.split() if word.startswith("evalsched_"))
    schedules, now = EvalScheduleRepository(evaluations.workshop.database), int(time.time())
    for number in range(2):
        (due,) = schedules.make_due(now + 3600 * number, queue="cpu")
        wait_until(lambda job=due.job: evaluations.workshop.jobs.get(job).status == "succeeded")  # type: ignore[union-attr,misc]
    shown = command("schedule", "show", schedule_id).stdout
    assert due.run in shown
    assert "p < 0.05" in shown
    history = command("history", "--picture", str(tmp_path / "history.svg"))
    assert history.stdout.count("says something") == 2, history.stderr
    assert "<svg" in (tmp_path / "history.svg").read_text()
    assert len(json.loads(command("history", "--json").stdout)["data"]) == 2
    assert command("schedule", "change", schedule_id, "--difference", "0.1").returncode == 0
    assert "p < 0.05, and a difference of 0.1" in command("schedule", "show", schedule_id).stdout
    assert command("schedule", "pause", schedule_id).returncode == 0
    assert "paused" in command("schedule", "list").stdout
    assert command("schedule", "delete", schedule_id).returncode == 0
    assert "five fields" in command("schedule", "create", str(spec), "--cron", "soon").stderr


def test_what_is_wrong_with_the_file_is_said(command: Command, spec: Path, tmp_path: Path):
    told = yaml.safe_load(spec.read_text())
    broken = tmp_path / "broken.yaml"
    for change, words in (
        ({"criteria": []}, "`criteria`"),
        ({"criteria": [{"type": "length", "name": "x", "maximum": 0}]}, "maximum"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"unknown": 1}, "`unknown`"),
    ):
        broken.write_text(yaml.safe_dump(told | change))
        refused = command("run", str(broken))
        assert refused.returncode == 1
        assert words in refused.stderr
    assert "There is no file" in command("run", str(tmp_path / "none.yaml")).stderr
    assert "needs a --baseline" in command("run", str(spec), "--fail-if-worse").stderr
