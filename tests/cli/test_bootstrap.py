"""What makes the environments: stamps, the machine's own package sources, and errors that say what to do."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cli import bootstrap
from cli.bootstrap import Bootstrap, BootstrapError, PackageSources, check_python, parse_pip_config, uv_settings
from tests.processes import ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a lock, and an environment that was made from it."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "cli.txt").write_text("typer==1\n")
    environment = tmp_path / ".flywheel" / "envs" / "cli"
    environment.mkdir(parents=True)
    (environment / "flywheel.stamp").write_text(Bootstrap(tmp_path).stamp_of("cli"))
    return tmp_path


def test_a_current_environment_is_left_alone(repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    Bootstrap(repository).make(["cli"])
    assert sorted(repository.rglob("*")) == before


def test_a_changed_lock_makes_the_environment_stale(repository: Path) -> None:
    (repository / "locks" / "cli.txt").write_text("typer==2\n")
    with pytest.raises((BootstrapError, FileNotFoundError), match="tools"):
        Bootstrap(repository).make(["cli"])


def test_pip_tells_uv_where_packages_are() -> None:
    listed = textwrap.dedent("""\
        :env:.find-links='/srv/wheels'
        global.find-links='/srv/wheels https://wheels.example/torch'
        global.index-url='https://mirror.example/simple'
        global.cert='/etc/ssl/ca.pem'
    """)
    sources = parse_pip_config(listed)
    assert sources == PackageSources("https://mirror.example/simple", ("/srv/wheels", "https://wheels.example/torch"))
    settings = uv_settings(sources)
    assert settings["UV_FIND_LINKS"] == "/srv/wheels,https://wheels.example/torch"
    assert settings["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


def test_uv_s_own_settings_win_over_pip_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    assert uv_settings(PackageSources(find_links=("/pip",)))["UV_FIND_LINKS"] == "/mine"


@pytest.mark.parametrize(("wheel", "offers"), [("torch-2.13.0+cpu-cp311.whl", True), ("numpy-2.0-cp311.whl", False)])
def test_a_folder_offers_torch_only_if_its_wheel_lies_there(tmp_path: Path, wheel: str, offers: bool) -> None:
    (tmp_path / wheel).touch()
    assert PackageSources(find_links=(str(tmp_path),)).offer_torch() is offers
    assert PackageSources(find_links=(tmp_path.as_uri(),)).offer_torch() is offers


def test_another_python_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(BootstrapError, match=r"Install Python 3\.11"):
        check_python()


def test_a_python_without_venv_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(BootstrapError, match=r"apt install python3\.11-venv"):
        check_python()


def test_a_service_that_does_not_exist_is_named() -> None:
    done = subprocess.run([sys.executable, bootstrap.__file__, "mail"], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr, "mail" in done.stderr) == (2, True, True)


def test_make_without_a_target_says_what_there_is() -> None:
    path = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    done = subprocess.run(["make"], cwd=ROOT, env=path, capture_output=True, text=True, check=True)
    assert all(f"  {target} " in done.stdout for target in ("up", "down", "test", "lint", "lock", "clean"))
