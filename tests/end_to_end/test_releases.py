"""Once round the loop on real parts: tune, evaluate, release to users, and a bad candidate that is sent back."""

import itertools
import json
import random
import struct
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from contracts.models import ModelCard
from store.artifacts import ArtifactStore
from store.database import Database
from store.models import ModelRepository
from tests.end_to_end.conftest import REPOSITORY, SLOW_S, TEXT_MODEL, Stack, wait_for

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(SLOW_S)]
ROWS = (REPOSITORY / "examples/ships_computer.jsonl").read_text().splitlines(keepends=True)
LEARNT, HELD_OUT = ROWS[:-16], ROWS[-16:]
ALIAS = "computer"
POLICY = {
    "evaluation": {"log_likelihood": {"min_difference": 0}, "similarity": {"min_difference": 0}, "timeout_s": 300},
    "canary": [{"share": 0.5, "min_requests": 20, "min_duration_s": 1, "timeout_s": 200}],
    "live": {"error_rate": {"max_increase": 0.3}},
}


class Users:
    """Several at once, who ask the alias again and again."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.failures: list[Exception] = []
        self.over = threading.Event()
        self._names = itertools.count()

    def ask_on(self, client: OpenAI) -> None:
        while not self.over.is_set():
            try:
                raw = client.chat.completions.with_raw_response.create(
                    model=ALIAS,
                    messages=[{"role": "user", "content": "What time is it?"}],
                    max_tokens=4,
                    user=f"user-{next(self._names) % 200}",
                )
                self.answers.append(raw.headers["x-flywheel-model"])
            except Exception as error:  # noqa: BLE001 (whatever a user sees)
                self.failures.append(error)


@contextmanager
def users(stack: Stack) -> Iterator[Users]:
    asking = Users()
    threads = [threading.Thread(target=asking.ask_on, args=(stack.client(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        asking.over.set()
        for thread in threads:
            thread.join()


def end_of(client: OpenAI, release: str) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        return client.get(f"/flywheel/releases/{release}", cast_to=object)  # type: ignore[return-value]

    wait_for(lambda: found()["finished_at"] is not None, timeout_s=600, what="the release ends")
    return found()


def tune(client: OpenAI, tmp_path: Path) -> str:
    file = tmp_path / "learn.jsonl"
    file.write_text("".join(LEARNT))
    uploaded = client.files.create(file=file.open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=TEXT_MODEL, training_file=uploaded.id, suffix="release", seed=1)
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job.id).status not in ("queued", "running"),
        timeout_s=600,
        what="tuned",
    )
    made = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert made is not None
    return made


def put_noise_in_place_of(stack: Stack, good: str, tmp_path: Path) -> str:
    """An adapter of the same form whose weights are noise."""
    database = Database(f"sqlite:///{stack.home}/flywheel.db")
    models, artifacts = ModelRepository(database), ArtifactStore(f"file://{stack.home}/artifacts")
    card: ModelCard = models.get(good)  # type: ignore[assignment]
    folder = tmp_path / "noise"
    artifacts.download_folder(card.weights, folder, digest=card.digest)
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    begins = 8 + struct.unpack("<Q", content[:8])[0]  # github.com/huggingface/safetensors, "Format"
    kinds = {entry["dtype"] for name, entry in json.loads(content[8:begins]).items() if name != "__metadata__"}
    assert kinds == {"F32"}
    chance = random.Random(1)
    noise = array("f", (chance.gauss(0, 0.2) for _ in range((len(content) - begins) // 4)))
    file.write_bytes(content[:begins] + noise.tobytes())
    name = good.replace(":release:", ":noise:")
    digest = artifacts.upload_folder(folder, "models/noise")
    models.put(card.model_copy(update={"name": name, "weights": "models/noise", "digest": digest}))
    database.dispose()
    return name


def test_a_tuned_model_is_evaluated_and_promoted_and_a_noisy_one_is_sent_back(
    stack: Stack, client: OpenAI, tmp_path: Path
):
    stack.flywheel("aliases", "create", ALIAS, "--model", TEXT_MODEL)
    held_out, policy = tmp_path / "held-out.jsonl", tmp_path / "policy.yaml"
    held_out.write_text("".join(HELD_OUT))
    policy.write_text(json.dumps(POLICY))
    good = tune(client, tmp_path)

    started = stack.flywheel(
        *("release", "start", ALIAS, good, "--policy", str(policy), "--evaluate-on", str(held_out))
    )
    release = next(word.strip(":") for word in started.split() if word.startswith("release-"))
    with users(stack) as asking:
        found = end_of(client, release)
        time.sleep(2)
        asking.answers.clear()
        wait_for(lambda: len(asking.answers) > 10, timeout_s=60, what="users ask on")
    status = stack.flywheel("release", "status", ALIAS)
    print(status)

    assert [move["state"] for move in found["moves"]] == ["built", "evaluated", "canary", "promoted"]
    gates = {gate["gate"]: gate for gate in found["moves"][1]["evidence"]["gates"]}
    assert gates["log_likelihood"]["low"] > 0.2  # it has learnt how the ship's computer speaks
    assert gates["similarity"]["low"] > 0
    assert asking.failures == []
    assert set(asking.answers) == {good}
    assert good in status

    bad = put_noise_in_place_of(stack, good, tmp_path)
    wait_for(lambda: bad in {model.id for model in client.models.list()}, timeout_s=30, what="the gateway knows it")
    with users(stack) as asking:
        started = stack.flywheel(
            *("release", "start", ALIAS, bad, "--policy", str(policy), "--evaluate-on", str(held_out), "--watch"),
            check=False,
        )
    print(started)

    release = next(word.strip(":") for word in started.split() if word.startswith("release-"))
    found = end_of(client, release)
    assert [move["state"] for move in found["moves"]] == ["built", "rolled_back"]
    assert "log-likelihood a token: candidate − stable ≥ 0: failed" in found["moves"][1]["reason"]
    assert asking.failures == []
    assert set(asking.answers) == {good}
