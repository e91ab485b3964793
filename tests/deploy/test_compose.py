import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks.settings_names import variables
from tests.processes import ROOT

COMPOSE = ROOT / "docker-compose.yml"
OBSERVABILITY = ("prometheus", "grafana", "otel-collector")
OURS = ("cli", "migrate", "engine", "cli", "engine-embeddings", "gateway", "worker", "releases")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def dockerfile_targets() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))


def test_the_services_are_all_there(services: dict[str, Any]) -> None:
    assert set(services) == {"redis", *OURS, *OBSERVABILITY}
    assert all(services[name]["profiles"] == ["observability"] for name in OBSERVABILITY)


def test_every_variable_is_a_setting() -> None:
    text = COMPOSE.read_text() + (ROOT / "deploy/secrets.env.example").read_text()
    named = set(re.findall(r"FLYWHEEL_[A-Z_]+", text))
    assert named
    assert named <= set(variables())


@pytest.mark.parametrize("name", OURS)
def test_an_image_is_built_by_a_target_of_its_name(services: dict[str, Any], name: str) -> None:
    build = services[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert build["target"] in dockerfile_targets()
    assert services[name]["image"].startswith(f"flywheel/{build['target']}:")


@pytest.mark.parametrize("name", OURS)
def test_nothing_starts_before_the_state_is_ready(services: dict[str, Any], name: str) -> None:
    if name == "migrate":
        return
    conditions = {on: how["condition"] for on, how in services[name]["depends_on"].items()}
    assert conditions == {"redis": "service_healthy", "migrate": "service_completed_successfully"}
    assert "healthcheck" in services["redis"]


def test_named_volumes_are_declared_and_state_is_shared(services: dict[str, Any]) -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    mounts = {name: {volume.split(":")[0] for volume in service["volumes"]} for name, service in services.items()}
    mounted = set().union(*mounts.values())
    assert {name for name in mounted if not name.startswith("./")} == declared
    assert all((ROOT / name).exists() for name in mounted if name.startswith("./"))
    assert all("state" in mounts[name] for name in OURS)
    assert all("weights" in mounts[name] for name in ("engine", "engine-embeddings", "worker"))


def test_only_gateway_and_charts_can_be_reached_and_from_this_machine_alone(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(ports) == ["gateway", "prometheus", "grafana"]
    assert all(port.startswith("127.0.0.1:") for (port,) in ports.values())


def test_secrets_are_in_no_file_of_ours() -> None:
    lines = (ROOT / "deploy/secrets.env.example").read_text().splitlines()
    assert [line for line in lines if line.startswith("FLYWHEEL_")] == ["FLYWHEEL_AUTH__PEPPER="]
    assert "deploy/secrets.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_the_dockerfile_copies_is_let_through() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in copied} == {line for line in ignored if line.startswith("!")}
    assert all(Path(ROOT / path).is_dir() for path in copied)
