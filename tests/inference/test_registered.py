"""Whole models that jobs made, on their way to an engine."""

from pathlib import Path

import pytest

from contracts.models import ModelCard
from contracts.serving import SERVING_FILE, ServingOptions
from inference.registered import fetch_weights
from inference.weights import WeightsError
from store.artifacts import ArtifactStore


def stored(artifacts: ArtifactStore, folder: Path) -> ModelCard:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = artifacts.upload_folder(folder, "models/made")
    of = {"kind": "full", "task": "generate", "weights": "models/made", "digest": digest, "context_length": 64}
    return ModelCard.model_validate({"name": "made", "created_at": 1} | of)


def test_weights_come_with_how_they_are_served(artifacts: ArtifactStore, tmp_path: Path):
    (made := tmp_path / "made").mkdir()
    ServingOptions(adapters=False).write(made)
    weights = fetch_weights(stored(artifacts, made), artifacts, tmp_path / "here")
    assert ServingOptions.read(weights.folder) == ServingOptions(adapters=False)


def test_weights_that_ask_for_what_no_engine_may_do_are_refused(artifacts: ArtifactStore, tmp_path: Path):
    (made := tmp_path / "made").mkdir()
    (made / SERVING_FILE).write_text('{"trust_remote_code": true}')
    with pytest.raises(WeightsError, match="trust_remote_code"):
        fetch_weights(stored(artifacts, made), artifacts, tmp_path / "here")
