import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks.compose import FILE as COMPOSE
from deploy.checks.compose import combinations, config
from deploy.checks.settings_names import variables
from tests.processes import ROOT

OBSERVABILITY = ("prometheus", "grafana", "otel-collector", "jaeger")
GPU = ("engine-gpu", "worker-gpu")
DEV = ("gateway-dev", "worker-dev")
OURS = ("migrate", "engine", "engine-embeddings", "gateway", "worker", "study-worker", "releases", "cli", *GPU, *DEV)
PROFILES = ("dev", "embeddings", "gpu", "observability", "postgres", "studies", "tools")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def dockerfile_targets() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))


def test_the_services_are_all_there(services: dict[str, Any]) -> None:
    assert set(services) == {"redis", "postgresql", *OURS, *OBSERVABILITY}
    assert {profile for service in services.values() for profile in service.get("profiles", [])} == set(PROFILES)
    assert all(services[name]["profiles"] == ["observability"] for name in OBSERVABILITY)


def test_every_variable_is_a_setting() -> None:
    named = set(re.findall(r"FLYWHEEL_[A-Z_]+", COMPOSE.read_text()))
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
    assert services["migrate"]["depends_on"]["postgresql"] == {"condition": "service_healthy", "required": False}
    conditions = {on: how["condition"] for on, how in services[name]["depends_on"].items()}
    assert conditions == {"redis": "service_healthy", "migrate": "service_completed_successfully"}
    assert "healthcheck" in services["redis"]


def test_named_volumes_are_declared_and_state_is_shared(services: dict[str, Any]) -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    mounts = {
        name: {volume.split(":")[0] for volume in service.get("volumes", [])} for name, service in services.items()
    }
    mounted = set().union(*mounts.values())
    assert {name for name in mounted if not name.startswith("./")} == declared
    assert all((ROOT / name).exists() for name in mounted if name.startswith("./"))
    assert all("state" in mounts[name] for name in OURS)
    assert all("weights" in mounts[name] for name in ("engine", "engine-embeddings", "worker", "study-worker", *GPU))


def test_only_gateway_and_charts_can_be_reached_and_from_this_machine_alone(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(ports) == ["gateway", "gateway-dev", "prometheus", "grafana", "jaeger"]
    assert all(port.startswith("127.0.0.1:") for (port,) in ports.values())


@pytest.mark.parametrize("profiles", list(combinations()), ids="+".join)
def test_docker_compose_accepts_it(profiles: tuple[str, ...]) -> None:
    services = config(profiles)
    assert ("engine-gpu" in services) == ("gpu" in profiles)
    for name, service in services.items():
        assert service["read_only"], name
        assert int(service["mem_limit"]) > 0, name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_secrets_reach_only_those_who_need_them_and_are_in_no_variable(services: dict[str, Any]) -> None:
    holders = {name for name, service in services.items() if "FLYWHEEL_AUTH__PEPPER" in service.get("secrets", [])}
    assert holders == {"gateway", "cli", "worker", "study-worker", "worker-gpu", *DEV}
    assert all(not services[name]["secrets"] for name in OBSERVABILITY)
    variables_set = {variable for service in services.values() for variable in service.get("environment", {})}
    assert not variables_set & {"FLYWHEEL_AUTH__PEPPER", "FLYWHEEL_DATABASE_URL", "POSTGRES_PASSWORD"}
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", DEV)
def test_development_runs_and_watches_all_code_that_the_image_has(services: dict[str, Any], name: str) -> None:
    stage = re.split(r"^FROM ", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    (image,) = [each for each in stage if each.startswith(f"base AS {services[name]['build']['target']}\n")]
    code = re.findall(r"^COPY (\w+)/ \1/$", image, re.MULTILINE)
    assert {f"./{folder}:/app/{folder}:ro" for folder in code} < set(services[name]["volumes"])
    watched = services[name]["develop"]["watch"]
    assert watched == [{"action": "restart", "path": f"./{folder}"} for folder in code]


def test_what_the_dockerfile_copies_is_let_through() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in copied} == {line for line in ignored if line.startswith("!")}
    assert all(Path(ROOT / path).is_dir() for path in copied)
