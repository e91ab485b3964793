"""The scripts that an operator runs before the first start."""

import shutil
import stat
from pathlib import Path

import pytest

from deploy import make_secrets, pin_images
from tests.processes import ROOT

DIGEST = f"sha256:{'ab' * 32}"
OTHERS = {"python:3.11-slim-bookworm", "valkey/valkey:9-alpine", "postgres:17-alpine", "prom/prometheus:v3.5.0"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/Dockerfile", tmp_path / "deploy")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    return tmp_path


def registry(folder: Path, monkeypatch: pytest.MonkeyPatch, *, answer: str) -> None:
    """A `docker` that answers for the registry, which no test can reach."""
    (folder / "bin").mkdir()
    docker = folder / "bin/docker"
    docker.write_text(f"#!/bin/sh\n{answer}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_every_image_of_others_is_pinned_and_ours_are_not(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(copy, monkeypatch, answer=f"echo {DIGEST}")
    assert pin_images.pin(copy).keys() >= OTHERS
    assert f"FROM python:3.11-slim-bookworm@{DIGEST} AS base" in (copy / "deploy/Dockerfile").read_text()
    for file in ("docker-compose.yml", "k8s/base/valkey.yaml"):
        assert f"image: valkey/valkey:9-alpine@{DIGEST}\n" in (copy / file).read_text()
    assert "image: flywheel/gateway:0.1.0\n" in (copy / "docker-compose.yml").read_text()
    once = (copy / "docker-compose.yml").read_text()
    pin_images.pin(copy)
    assert (copy / "docker-compose.yml").read_text() == once


def test_nothing_is_pinned_where_no_registry_answers(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(copy, monkeypatch, answer="echo no such host >&2; exit 1")
    with pytest.raises(pin_images.NotResolved, match="no such host"):
        pin_images.pin(copy)
    assert "sha256" not in (copy / "docker-compose.yml").read_text()


def test_secrets_are_made_once_and_their_folder_is_its_owners(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert set(make_secrets.make(folder, postgres=True)) == {
        *("FLYWHEEL_AUTH__PEPPER", "FLYWHEEL_DATABASE_URL", "POSTGRES_PASSWORD")
    }
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert before["POSTGRES_PASSWORD"] in before["FLYWHEEL_DATABASE_URL"]
    assert len(before["FLYWHEEL_AUTH__PEPPER"]) >= 32
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "FLYWHEEL_DATABASE_URL").unlink()
    assert make_secrets.make(folder, postgres=False) == ["FLYWHEEL_DATABASE_URL"]
    assert (folder / "FLYWHEEL_DATABASE_URL").read_text().startswith("sqlite:")
    assert (folder / "FLYWHEEL_AUTH__PEPPER").read_text() == before["FLYWHEEL_AUTH__PEPPER"]
