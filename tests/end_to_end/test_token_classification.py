"""A token classifier behind a real gateway and agent. Its runner is ours, so it starts in seconds."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contracts.models import ModelCard
from store.models import ModelRepository
from tests.end_to_end.conftest import EMBEDDING_MODEL, SLOW_S
from tests.gateway_process import GatewayProcess
from tests.processes import ROOT, Process, free_port
from tests.sentences import SENTENCES

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]
ENGINE_PYTHON = str(ROOT / ".flywheel/envs/engine/bin/python")
NAME = "ft:minilm:acme:names:1"
CONTEXT_LENGTH = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights, and what transformers computes with them."""
    found = subprocess.run(
        [ENGINE_PYTHON, "-m", "inference.weights", EMBEDDING_MODEL],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    made = tmp_path / "made"
    command = [ENGINE_PYTHON, "-m", "tests.made_models", "token-classifier", found.stdout.split()[0], str(made)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return made


@pytest.fixture
def client(gateway: GatewayProcess, folder: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    card = ModelCard(
        name=NAME,
        kind="full",
        task="token_classify",
        parent=EMBEDDING_MODEL,
        weights="models/names",
        digest=gateway.artifacts.upload_folder(folder, "models/names"),
        context_length=CONTEXT_LENGTH,
        on_demand=True,
        created_at=1,
    )
    ModelRepository(gateway.database).put(card)
    settings = gateway.settings | {
        "FLYWHEEL_ENGINE__PORT": str(free_port()),
        "FLYWHEEL_ENGINE__WEIGHTS_DIR": str(tmp_path / "weights"),
    }
    agent = Process([ENGINE_PYTHON, "-m", "inference.agent", NAME], log=tmp_path / "agent.log", environment=settings)
    headers = {"authorization": f"Bearer {gateway.new_key().secret}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, timeout=60) as client:
        agent.wait_until(lambda: client.get(f"/models/{NAME}").json().get("state") == "live", timeout_s=300)
        yield client
    agent.stop()


def test_words_are_labelled_and_entities_found_where_they_stand(client: httpx.Client, folder: Path):
    answer = client.post("/classify", json={"model": NAME, "input": SENTENCES})
    assert answer.status_code == 200, answer.text
    expected = json.loads(folder.with_name("made.expected.json").read_text())

    for text, item, words in zip(SENTENCES, answer.json()["data"], expected, strict=True):
        assert [word["label"] for word in item["words"]] == [label for label, _ in words]
        assert [word["score"] for word in item["words"]] == pytest.approx([score for _, score in words], abs=0.001)
        assert "".join(text[word["start"] : word["end"]] for word in item["words"]) == text.replace(" ", "")
        assert item["entities"]
        assert all(text[one["start"] : one["end"]] == one["text"] for one in item["entities"])
    assert answer.json()["usage"]["prompt_tokens"] > 20

    long = client.post("/classify", json={"model": NAME, "input": "word " * 100})
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
    cut = client.post("/classify", json={"model": NAME, "input": "word " * 100, "truncate_prompt_tokens": -1})
    assert cut.json()["usage"]["prompt_tokens"] == CONTEXT_LENGTH
    ids = client.post("/classify", json={"model": NAME, "input": [101, 102]})
    assert (ids.status_code, ids.json()["error"]["param"]) == (400, "input")
