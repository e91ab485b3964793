"""`flywheel aliases` and `flywheel release` against a real gateway."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.models import ModelCard
from store.models import ModelRepository
from tests.cli.conftest import Flywheel
from tests.gateway_process import GatewayProcess

POLICY = "canary: [{share: 0.5, min_requests: 20, min_duration_s: 0}]\n"


@pytest.fixture
def at(start_gateway: Callable[..., GatewayProcess]) -> dict[str, str]:
    """The environment that leads to a gateway with two models."""
    gateway = start_gateway()
    for name in ("old", "new"):
        fields: dict[str, Any] = {"kind": "base", "task": "generate", "weights": "/nowhere", "digest": "sha256:0"}
        ModelRepository(gateway.database).put(ModelCard(name=name, context_length=2048, created_at=1, **fields))
    key = gateway.new_key(tenant="acme")
    environment = {"FLYWHEEL_BASE_URL": gateway.base_url, "FLYWHEEL_API_KEY": key.secret}
    gateway.process.wait_until(lambda: "old" in _models(gateway, key.secret))
    return environment


def _models(gateway: GatewayProcess, secret: str) -> str:
    import httpx

    return httpx.get(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {secret}"}).text


def test_a_release_from_the_alias_to_the_roll_back(flywheel: Flywheel, at: dict[str, str], tmp_path: Path):
    assert "assistant stands for old." in flywheel("aliases", "create", "assistant", "--model", "old", **at).stdout
    assert "assistant" in flywheel("models", **at).stdout
    (tmp_path / "policy.yaml").write_text(POLICY)

    started = flywheel("release", "start", "assistant", "new", "--policy", str(tmp_path / "policy.yaml"), **at)
    release = started.stdout.split(":")[0]
    assert release.startswith("release-")
    row = next(line for line in flywheel("aliases", "list", **at).stdout.splitlines() if line.startswith("assistant"))
    assert row.split() == ["assistant", "old", "acme", release]
    status = flywheel("release", "status", "assistant", **at).stdout
    assert f"{release}  assistant: old → new  built" in status
    assert "No controller runs" in status

    assert "new now." in flywheel("release", "promote", release, "--reason", "It is obvious.", **at).stdout
    assert flywheel("release", "watch", "assistant", **at).returncode == 0
    assert "old again." in flywheel("release", "rollback", "assistant", **at).stdout
    watched = flywheel("release", "watch", "assistant", **at)
    assert (watched.returncode, "It is obvious." in watched.stdout) == (1, True)
    assert flywheel("aliases", "delete", "assistant", **at).returncode == 0


def test_what_goes_wrong_is_said_in_a_line(flywheel: Flywheel, at: dict[str, str], tmp_path: Path):
    (tmp_path / "broken.yaml").write_text("canary: [")
    (tmp_path / "wrong.yaml").write_text("canary: [{share: 2}]")
    flywheel("aliases", "create", "assistant", "--model", "old", **at)
    for arguments, says in (
        (("aliases", "create", "assistant", "--model", "old"), "exists already"),
        (("release", "status", "assistant"), "has had no release"),
        (("release", "status", "release-none"), "No such release"),
        (("release", "start", "assistant", "new", "--policy", str(tmp_path / "none.yaml")), "cannot be read"),
        (("release", "start", "assistant", "new", "--policy", str(tmp_path / "broken.yaml")), "not valid YAML"),
        (("release", "start", "assistant", "new", "--policy", str(tmp_path / "wrong.yaml")), "policy.canary.0.share"),
        (("release", "start", "assistant", "new", "--evaluate-on", str(tmp_path / "none")), "There is no file"),
    ):
        done = flywheel(*arguments, **at)
        assert (done.returncode, says in done.stderr) == (1, True), (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
