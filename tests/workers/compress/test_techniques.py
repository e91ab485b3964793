"""What techniques do to weights, by their own programs' functions in the worker's environment."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT
from workers.compress.told import Task

PYTHON = ROOT / ".flywheel" / "envs" / "worker" / "bin" / "python"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("techniques")
    command = [str(PYTHON), "-m", "tests.workers.compress.arithmetic", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_two_of_each_four_weights_stay_and_they_are_the_largest(found: dict[str, Any]):
    assert found["masks"]["2:4"] == [[0, 1, 1, 0, 0, 0, 1, 1]]
    assert found["masks"]["unstructured"] == [[0, 1, 1, 0, 0, 0, 0, 0]]
    assert found["weights"]["zeros_of_four"] == [2]
    already_zero = 12_288 / 147_456  # two matrices of the layer that adds nothing
    assert found["weights"]["facts"]["zeros"] == pytest.approx(0.5 + already_zero / 2)


def test_the_layer_that_adds_nothing_is_left_out_and_nothing_changes(found: dict[str, Any]):
    layers = found["layers"]
    assert layers["influence"][2] == pytest.approx(0, abs=1e-5)
    assert layers["left_out"] == [2]
    assert (layers["count"], layers["facts"]["layers"]) == (3, 3)
    assert layers["apart"] < 1e-4


def test_what_is_left_learns_to_say_what_the_whole_says(found: dict[str, Any]):
    healing = found["layers"]["healing"]
    assert healing["last_loss"] < healing["first_loss"]
    assert found["layers"]["healed_is_nearer"]


def test_channels_that_say_nothing_are_left_out_and_nothing_changes(found: dict[str, Any]):
    width = found["width"]
    assert width["dead_weigh"] == 0
    assert width["apart"] < 1e-4
    assert (width["width"], width["facts"]["channels"]) == (64, 64)
    assert width["kept"] == [1152, 50]


@pytest.mark.parametrize(("keys", "left"), [("shared", [2, 2, 16]), ("own", [2, 2, 16])])
def test_heads_without_effect_are_left_out_and_nothing_changes(found: dict[str, Any], keys: str, left: list[int]):
    heads = found["heads"][keys]
    assert heads["dead_weigh"] == 0
    assert heads["apart"] < 1e-4
    assert heads["heads"] == left


def test_a_model_with_fewer_heads_is_written_and_healed(found: dict[str, Any]):
    heads = found["heads"]
    assert heads["made"] == [2, 2, 16]
    assert (heads["facts"]["heads"], heads["facts"]["steps"]) == (2, 2)
    assert heads["kept"] == [2, 8]


def test_a_student_learns_from_its_teacher_the_same_way_each_time(found: dict[str, Any]):
    student = found["student"]
    assert student["of_its_own"] == pytest.approx(0, abs=1e-3)
    assert student["facts"]["layers"] == 2
    assert student["facts"]["last_loss"] < 0.7 * student["facts"]["first_loss"]
    assert student["facts"] == student["facts_again"]
    assert student["apart_again"] == 0
    assert student["by_sequence"]["last_loss"] < student["by_sequence"]["first_loss"]
    assert student["spaced"] == [[0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29], [0, 3]]


def test_a_merged_adapter_says_what_it_says_beside_its_base(found: dict[str, Any]):
    assert found["merged"]["apart"] < 1e-4
    assert found["merged"]["from_base"] > 0.01


def test_what_cannot_be_made_is_refused_in_words(found: dict[str, Any]):
    assert len(found["refused"]) == 7


def test_a_task_crosses_to_a_program_as_it_was(tmp_path: Path):
    task = Task(tmp_path, tmp_path / "out", None, {"share": 0.5}, seed=1, threads=None)
    task.write(tmp_path / "task.json")
    assert Task.read(tmp_path / "task.json") == task
