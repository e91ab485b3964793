"""The referee of the fine-tuning benchmark."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Listener
from pathlib import Path

import pytest

from loadtests.finetune.turns import Referee

STEPS = 3


def train(name: str, address: str, made: list[str]) -> None:
    with Client(address, "AF_UNIX") as referee:
        referee.send({"name": name, "read_bytes": len(name)})
        for step in range(1, STEPS + 1):
            referee.recv()
            made.append(name)
            referee.send({"seconds": float(step), "cpu_s": 0.1, "loss": 1 / step, "ended": step == STEPS})
        referee.recv()


def test_two_trainings_make_their_steps_by_turns_and_the_first_one_changes(tmp_path: Path):
    made: list[str] = []
    address = str(tmp_path / "turns")
    with Listener(address, "AF_UNIX") as listener, ThreadPoolExecutor() as threads:
        running = [threads.submit(train, name, address, made) for name in ("ours", "bare")]
        played = Referee(listener, ["ours", "bare"]).run()
        for one in running:
            one.result(10)

    assert made == ["ours", "bare", "bare", "ours", "ours", "bare"]
    assert {name: one.seconds for name, one in played.items()} == {name: [1.0, 2.0, 3.0] for name in ("ours", "bare")}
    assert played["ours"].read_bytes == 4


def test_a_training_that_ends_early_is_noticed(tmp_path: Path):
    address = str(tmp_path / "turns")
    with Listener(address, "AF_UNIX") as listener, ThreadPoolExecutor() as threads:
        refereeing = threads.submit(Referee(listener, ["ours"]).run)
        client = Client(address, "AF_UNIX")
        client.send({"name": "ours", "read_bytes": 0})
        client.recv()
        client.close()
        with pytest.raises(EOFError):
            refereeing.result(10)
