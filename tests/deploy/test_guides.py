"""docs/deploy names only what there is."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.checks.settings_names import variables
from tests.processes import ROOT

PAGES = sorted((ROOT / "docs/deploy").glob("*.md"))
COMPOSE = (ROOT / "docker-compose.yml").read_text()


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, link


def test_paths_and_targets_of_make_exist(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"`((?:k8s|deploy|inference|tests)/[\w./-]+\w)`", text):
        assert (ROOT / path).exists() or path.startswith("deploy/secrets"), path
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)


def test_overlays_and_components_exist(page: Path) -> None:
    for name in re.findall(r"`((?:overlays|components)/[\w-]+)`", page.read_text()):
        assert (ROOT / "k8s" / name / "kustomization.yaml").exists(), name


def test_settings_exist(page: Path) -> None:
    named = set(re.findall(r"FLYWHEEL_[A-Z_]*[A-Z]", page.read_text()))
    assert named <= {*variables(), "FLYWHEEL_API_KEY"}


def test_every_profile_and_variable_of_compose_is_told_of() -> None:
    text = (ROOT / "docs/deploy/compose.md").read_text()
    services = yaml.safe_load(COMPOSE)["services"]
    for profile in {each for service in services.values() for each in service.get("profiles", [])}:
        assert f"`{profile}`" in text, profile
    assert {name for name in re.findall(r"\$\{(\w+)", COMPOSE) if name not in text} <= {"FLYWHEEL_TELEMETRY__LOG_LEVEL"}


def test_every_overlay_is_told_of() -> None:
    text = (ROOT / "docs/deploy/kubernetes.md").read_text()
    for folder in ("overlays", "components"):
        for each in (ROOT / "k8s" / folder).iterdir():
            if each.is_dir() and each.name != "trainers-network":
                assert f"{folder}/{each.name}" in text, each
