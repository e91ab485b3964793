"""What jobs make, served by real engines: adapters on demand, whole models, classifiers.

Jobs are left out: their models are made here, untrained, and registered as a worker does it.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI
from redis import Redis

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.artifacts import ArtifactStore
from store.database import Database
from store.models import ModelRepository
from tests.end_to_end.conftest import EMBEDDING_MODEL, REPOSITORY, SLOW_S, TEXT_MODEL, Stack, wait_for
from tests.sentences import SENTENCES

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(SLOW_S)]
ENGINE_PYTHON = REPOSITORY / ".flywheel/envs/engine/bin/python"


class Workshop:
    """Makes models and registers them for the local tenant."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        settings = stack.local["settings"]
        self._database = Database(settings["FLYWHEEL_DATABASE_URL"])
        self._models = ModelRepository(self._database)
        self._artifacts = ArtifactStore(settings["FLYWHEEL_ARTIFACTS_URL"])
        self._redis_url = settings["FLYWHEEL_REDIS_URL"]
        self._folder = folder

    def make(self, kind: str, name: str, *, parent: str, **fields: object) -> ModelCard:
        base = self._models.get(parent)
        assert base is not None
        folder = self._folder / name.replace(":", "-")
        source = base.weights or self._embedding_weights()
        made_with = [str(ENGINE_PYTHON), "-m", "tests.made_models", kind, source, str(folder)]
        subprocess.run(made_with, cwd=REPOSITORY, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        path = f"models/{folder.name}"
        card = {"weights": path, "digest": self._artifacts.upload_folder(folder, path), "created_at": int(time.time())}
        card |= {"tenant": "local", "parent": parent, "task": base.task, "job": "ftjob-made", "licence": base.licence}
        card |= {"context_length": base.context_length, "metrics": {"train_loss": 0.25}, "on_demand": True}
        made = ModelCard.model_validate({"name": name, "kind": "full"} | card | fields)
        self._models.put(made)
        with Redis.from_url(self._redis_url) as redis:
            redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="model", id=name).model_dump_json())
        return made

    def expected(self, card: ModelCard) -> list:
        return json.loads((self._folder / f"{card.name.replace(':', '-')}.expected.json").read_text())

    def close(self) -> None:
        self._database.dispose()

    @staticmethod
    def _embedding_weights() -> str:
        command = [str(ENGINE_PYTHON), "-m", "inference.weights", EMBEDDING_MODEL]
        done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        return done.stdout.split()[0]


@pytest.fixture(scope="module")
def workshop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(stack, tmp_path_factory.mktemp("made"))
    yield workshop
    workshop.close()


def post(stack: Stack, path: str, body: dict) -> dict:
    answer = httpx.post(
        f"{stack.base_url}{path}", json=body, headers={"authorization": f"Bearer {stack.api_key}"}, timeout=SLOW_S
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(client: OpenAI, model: str) -> str:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Name three colours."}],
        temperature=0,
        max_tokens=24,
        extra_headers={"cache-control": "no-store"},
        timeout=SLOW_S,
    )
    return answer.choices[0].message.content or ""


def appears(client: OpenAI, name: str) -> None:
    wait_for(lambda: name in [model.id for model in client.models.list()], timeout_s=20, what="the model is known")


def test_a_whole_model_starts_at_its_first_request_and_says_something_of_its_own(
    stack: Stack, client: OpenAI, workshop: Workshop
):
    name = f"ft:{TEXT_MODEL}:local:whole:1"
    card = workshop.make("text", name, parent=TEXT_MODEL)
    appears(client, name)
    assert client.models.retrieve(name).state == "on_demand"

    told = ask(client, name)
    assert told
    assert told != ask(client, TEXT_MODEL)
    live = client.models.retrieve(name)
    assert (live.state, live.root, live.digest, len(live.engines)) == ("live", TEXT_MODEL, card.digest, 1)

    shown = stack.flywheel("models", "show", name)
    assert TEXT_MODEL in shown.splitlines()[0]
    assert card.digest in shown
    assert "train_loss 0.25" in shown

    client.models.delete(name)
    wait_for(lambda: not engines_of(name), timeout_s=90, what="its engine ends with the model")


def engines_of(name: str) -> list[int]:
    commands = {process.pid: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])}
    return [pid for pid, command in commands.items() if "inference.agent" in command and name in command]


def test_texts_are_classified_as_transformers_would(stack: Stack, client: OpenAI, workshop: Workshop):
    card = workshop.make("classifier", "ft:minilm:local:mood:1", parent=EMBEDDING_MODEL, task="classify")
    appears(client, card.name)
    answer = post(stack, "/classify", {"model": card.name, "input": SENTENCES})

    for item, expected in zip(answer["data"], workshop.expected(card), strict=True):
        assert item["probs"] == pytest.approx(expected, abs=0.01)
        assert item["label"] == ("negative", "neutral", "positive")[expected.index(max(expected))]
    assert answer["usage"]["prompt_tokens"] > 10
    client.models.delete(card.name)


def test_a_tuned_encoder_embeds_with_the_pooling_of_its_base(client: OpenAI, workshop: Workshop):
    card = workshop.make("embedder", "ft:minilm:local:domain:1", parent=EMBEDDING_MODEL)
    appears(client, card.name)
    answer = client.embeddings.create(model=card.name, input=SENTENCES, timeout=SLOW_S)

    for item, expected in zip(answer.data, workshop.expected(card), strict=True):
        assert item.embedding == pytest.approx(expected, abs=0.02)
    client.models.delete(card.name)
