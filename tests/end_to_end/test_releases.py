"""The whole flywheel on real parts: answers that users corrected become a model that takes the place of the old one.

Beside it bad candidates, which are sent back by themselves while no client sees an error.
"""

import hashlib
import itertools
import json
import random
import struct
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from contracts.models import ModelCard
from store.artifacts import ArtifactStore
from store.database import Database
from store.models import ModelRepository
from tests.end_to_end.conftest import REPOSITORY, SLOW_S, TEXT_MODEL, Stack, wait_for

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(2 * SLOW_S)]
ROWS = (REPOSITORY / "examples/ships_computer.jsonl").read_text().splitlines(keepends=True)
LEARNT, HELD_OUT = ROWS[:40], ROWS[-12:]
STYLE = "Aye, captain"
"""How every answer of these rows begins, and so what users want to hear."""
AT_ONCE = 2
CANARY = {
    "canary": [{"share": 0.5, "min_requests": 20, "min_duration_s": 1, "timeout_s": 600}],
    "live": {"error_rate": {"max_increase": 0.3}, "feedback": {"max_decrease": 0.1, "required": True}},
}
EVALUATION = {"log_likelihood": {"min_difference": 0}, "similarity": {"min_difference": 0}, "timeout_s": 900}


def question_and_answer(row: str) -> tuple[str, str]:
    question, answer = json.loads(row)["messages"]
    return question["content"], answer["content"]


class Users:
    """Several at once, who ask the alias again and again, and rate what they hear."""

    def __init__(self, alias: str) -> None:
        self.answers: list[tuple[float, str]] = []
        """When each was asked for, and the model that gave it."""
        self.failures: list[Exception] = []
        self.over = threading.Event()
        self._alias = alias
        self._numbers = itertools.count()

    def ask_on(self, client: OpenAI) -> None:
        while not self.over.is_set():
            try:
                self._ask(client, next(self._numbers))
            except Exception as error:  # noqa: BLE001 (whatever a user sees)
                self.failures.append(error)

    def _ask(self, client: OpenAI, number: int) -> None:
        question, _ = question_and_answer(LEARNT[number % len(LEARNT)])
        asked_at = time.monotonic()
        raw = client.chat.completions.with_raw_response.create(
            model=self._alias,
            messages=[{"role": "user", "content": question}],
            max_tokens=6,
            user=f"user-{number % 200}",
        )
        answer = raw.parse()
        said = answer.choices[0].message.content or ""
        rating = "up" if said.startswith(STYLE) else "down"
        client.post("/feedback", body={"response_id": answer.id, "rating": rating}, cast_to=object)
        self.answers.append((asked_at, raw.headers["x-flywheel-model"]))

    def models(self, *, asked_since: float = 0.0) -> list[str]:
        return [model for asked_at, model in self.answers if asked_at >= asked_since]


@contextmanager
def users(stack: Stack, alias: str) -> Iterator[Users]:
    asking = Users(alias)
    threads = [threading.Thread(target=asking.ask_on, args=(stack.client(),)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        asking.over.set()
        for thread in threads:
            thread.join()


def captures(client: OpenAI, tag: str) -> list[dict[str, Any]]:
    query = {"params": {"tag": tag, "limit": 1000}}
    return client.get("/flywheel/captures", cast_to=object, options=query)["data"]  # type: ignore[index]


def ask_and_correct(client: OpenAI, alias: str) -> None:
    """What an application's users do: ask, and say what the answer should have been; two only say that it is bad."""

    def ask(question: str, correction: str | None) -> None:
        answer = client.chat.completions.create(
            model=alias, messages=[{"role": "user", "content": question}], max_tokens=8
        )
        judged = {"response_id": answer.id, "rating": "down", "tags": ["style"], "correction": correction}
        client.post("/feedback", body=judged, cast_to=object)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        asked = [question_and_answer(row) for row in LEARNT]
        asked += [("Who are you?", None), ("Are you a machine?", None)]
        list(threads.map(lambda one: ask(*one), asked))


def tune(client: OpenAI, file: Path) -> str:
    uploaded = client.files.create(file=file.open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=TEXT_MODEL, training_file=uploaded.id, suffix="release", seed=1, hyperparameters={"n_epochs": 3}
    )
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job.id).status not in ("queued", "validating_files", "running"),
        timeout_s=SLOW_S,
        what="tuned",
    )
    made = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert made is not None
    return made


@dataclass(frozen=True)
class Corrected:
    """A model that learnt from corrected answers, with the file that was made of these and what was said of it."""

    model: str
    file: Path
    told: str


@pytest.fixture(scope="module")
def corrected(stack: Stack, client: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> Corrected:
    stack.flywheel("aliases", "create", "application", "--model", TEXT_MODEL)
    _, secret = stack.new_key("--scope", "inference", "--capture", "1")
    with stack.client(secret) as application:
        ask_and_correct(application, "application")
    wait_for(lambda: len(captures(client, "style")) == len(LEARNT) + 2, timeout_s=30, what="all is captured")
    file = tmp_path_factory.mktemp("built") / "train.jsonl"
    told = stack.flywheel("dataset", "build", "--from", "captures", "--tag", "style", "--out", str(file))
    return Corrected(tune(client, file), file, told)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("held-out") / "held-out.jsonl"
    file.write_text("".join(HELD_OUT))
    return file


def policy_file(folder: Path, policy: dict[str, Any]) -> str:
    file = folder / "policy.yaml"
    file.write_text(json.dumps(policy))
    return str(file)


def start(stack: Stack, alias: str, candidate: str, *options: str) -> str:
    started = stack.flywheel("release", "start", alias, candidate, *options)
    return next(word.strip(":") for word in started.split() if word.startswith("release-"))


def end_of(client: OpenAI, release: str) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        return client.get(f"/flywheel/releases/{release}", cast_to=object)  # type: ignore[return-value]

    wait_for(lambda: found()["finished_at"] is not None, timeout_s=SLOW_S, what="the release ends")
    return found()


def models_from_now_on(asking: Users) -> set[str]:
    since = time.monotonic() + 1.0  # every gateway knows within a second
    wait_for(lambda: len(asking.models(asked_since=since)) > 10, timeout_s=SLOW_S, what="users ask on")
    return set(asking.models(asked_since=since))


def put_noise_in_place_of(stack: Stack, good: str, tmp_path: Path) -> str:
    """An adapter of the same form whose weights are noise."""
    settings = stack.local["settings"]
    database = Database(settings["FLYWHEEL_DATABASE_URL"])
    models = ModelRepository(database)
    artifacts = ArtifactStore(settings["FLYWHEEL_ARTIFACTS_URL"])
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


@pytest.fixture(scope="module")
def noisy(stack: Stack, client: OpenAI, corrected: Corrected, tmp_path_factory: pytest.TempPathFactory) -> str:
    name = put_noise_in_place_of(stack, corrected.model, tmp_path_factory.mktemp("noise"))
    wait_for(lambda: name in {model.id for model in client.models.list()}, timeout_s=30, what="the gateway knows it")
    return name


def test_answers_that_users_corrected_become_the_model_that_they_get(
    stack: Stack, client: OpenAI, corrected: Corrected, held_out: Path, tmp_path: Path
):
    print(corrected.told)
    learnt = [question_and_answer(row) for row in corrected.file.read_text().splitlines()]
    assert sorted(learnt) == sorted(question_and_answer(row) for row in LEARNT)
    assert "2: rated down and not corrected" in corrected.told
    digest = hashlib.sha256(corrected.file.read_bytes()).hexdigest()
    assert client.models.retrieve(corrected.model).data_digest == f"sha256:{digest}"

    policy = policy_file(tmp_path, CANARY | {"evaluation": EVALUATION})
    with users(stack, "application") as asking:
        release = start(stack, "application", corrected.model, "--policy", policy, "--evaluate-on", str(held_out))
        found = end_of(client, release)
        models = models_from_now_on(asking)
    status = stack.flywheel("release", "status", "application")
    print(status)

    assert [move["state"] for move in found["moves"]] == ["built", "evaluated", "canary", "promoted"]
    evaluated, promoted = (
        {gate["gate"]: gate for gate in found["moves"][number]["evidence"]["gates"]} for number in (1, 3)
    )
    assert evaluated["log_likelihood"]["low"] > 0.2  # it has learnt how the ship's computer speaks
    assert evaluated["similarity"]["low"] > 0
    assert promoted["feedback"]["candidate"] > promoted["feedback"]["stable"] + 0.5
    assert asking.failures == []
    assert models == {corrected.model}
    assert corrected.model in status


def test_a_bad_candidate_is_sent_back_before_users_get_it(
    stack: Stack, client: OpenAI, corrected: Corrected, noisy: str, held_out: Path, tmp_path: Path
):
    stack.flywheel("aliases", "create", "evaluated", "--model", corrected.model)
    policy = policy_file(tmp_path, CANARY | {"evaluation": EVALUATION})
    with users(stack, "evaluated") as asking:
        watched = stack.flywheel(
            *("release", "start", "evaluated", noisy, "--policy", policy, "--evaluate-on", str(held_out), "--watch"),
            check=False,
        )
    print(watched)

    found = end_of(client, next(word.strip(":") for word in watched.split() if word.startswith("release-")))
    assert [move["state"] for move in found["moves"]] == ["built", "rolled_back"]
    assert "log-likelihood a token: candidate − stable ≥ 0: failed" in found["moves"][1]["reason"]
    assert asking.failures == []
    assert set(asking.models()) == {corrected.model}


def test_a_bad_candidate_that_users_get_is_sent_back_by_their_ratings(
    stack: Stack, client: OpenAI, corrected: Corrected, noisy: str, tmp_path: Path
):
    stack.flywheel("aliases", "create", "rated", "--model", corrected.model)
    with users(stack, "rated") as asking:
        found = end_of(client, start(stack, "rated", noisy, "--policy", policy_file(tmp_path, CANARY)))
        during = set(asking.models())
        afterwards = models_from_now_on(asking)
    print(stack.flywheel("release", "status", "rated"))

    assert [move["state"] for move in found["moves"]] == ["built", "evaluated", "canary", "rolled_back"]
    assert "good ratings: stable − candidate ≤ 0.1: failed" in found["moves"][-1]["reason"]
    assert asking.failures == []
    assert during == {corrected.model, noisy}
    assert afterwards == {corrected.model}
