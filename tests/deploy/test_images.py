"""What the images start exists, and their tags are this version."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.processes import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
COMMANDS = {
    name: service.get("entrypoint") or service["command"] for name, service in COMPOSE.items() if "build" in service
}


def module_file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_starts_a_module_that_is_in_its_image(name: str) -> None:
    python, flag, module, *_ = COMMANDS[name]
    assert (python, flag) == ("python", "-m")
    assert module_file(module).is_file()
    package = module.split(".")[0]
    assert f"COPY {package}/ {package}/" in stages()[COMPOSE[name]["build"]["target"]]


def test_tags_are_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = {service["image"].rpartition(":")[2] for service in COMPOSE.values() if "build" in service}
    assert tags == {version}


@pytest.mark.parametrize(
    "target", ["gateway", "engine", "engine-cuda", "worker", "worker-cuda", "study-worker", "releases", "cli"]
)
def test_an_image_runs_as_nobody_in_particular_from_a_lock(target: str) -> None:
    stage = stages()[target]
    environment = {"releases": "gateway", "study-worker": "worker"}.get(target, target)
    assert re.search(r"^USER 10001$", stage, re.MULTILINE)
    if target != "engine-cuda":
        assert f"COPY --from={environment}-environment" in stage
    lock = re.search(r"locks/\S+\.txt", stages().get(f"{environment}-environment", stage))
    assert lock is not None
    assert (ROOT / lock.group()).is_file()
    assert {"contracts", "telemetry", "store"} <= set(re.findall(r"^COPY (\w+)/", stage, re.MULTILINE))


def test_engines_on_gpus_are_of_the_vllm_that_is_locked() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (pinned,) = (each for each in extras["engine-cuda"] if each.startswith("vllm=="))
    version = re.escape(pinned.removeprefix("vllm=="))
    assert re.search(rf"^FROM vllm/vllm-openai:v{version}(@sha256:\w+)? AS engine-cuda$", DOCKERFILE, re.MULTILINE)


def test_nothing_that_vllms_image_has_is_put_in_its_place_but_what_all_services_need() -> None:
    locked = (ROOT / "locks/engine-on-vllm.txt").read_text()
    names = set(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE))
    assert {"redis", "s3fs", "sqlalchemy", "structlog"} <= names
    assert not names & {"torch", "transformers", "vllm", "numpy", "triton", "fastapi", "tokenizers"}
    assert not [name for name in names if name.startswith(("nvidia", "flashinfer"))]
