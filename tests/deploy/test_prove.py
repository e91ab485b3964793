"""What `make prove-images` reads into the Dockerfile. The proof itself takes minutes and root."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.checks.render import ENVIRONMENT
from deploy.prove.base_image import BaseImage, CannotBuild
from deploy.prove.sandbox import Mounts
from tests.processes import ROOT

ASK = "import json, sys; from pathlib import Path; from deploy.prove.dockerfile import *; print(json.dumps({}))"


def ask(expression: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In the environment `deploy`, which has the parser."""
    command = [ENVIRONMENT / "python", "-c", ASK.format(expression), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def answer(expression: str, *arguments: str | Path) -> Any:
    asked = ask(expression, *arguments)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def test_every_stage_of_ours_is_understood() -> None:
    words = "{name: [stage.parent, *(each.word for each in stage.instructions)] for name, stage in stages.items()}"
    stages = answer(f"[{words} for stages in [read(Path(sys.argv[1]))]][0]", ROOT / "deploy/Dockerfile")
    assert {"gateway", "engine", "worker", "releases", "cli", "engine-cuda", "worker-cuda"} <= stages.keys()
    assert stages["gateway"][0] == "base"
    assert stages["gateway"][-3:] == ["USER", "EXPOSE", "CMD"]
    assert BaseImage.named(stages["base"][0]) == BaseImage("3.11", "bookworm")


def test_variables_refer_to_earlier_ones() -> None:
    made = answer("assignments(sys.argv[1], {'PATH': '/bin'})", 'PATH=/opt/venv/bin:$PATH NAME="two words"')
    assert made == {"PATH": "/opt/venv/bin:/bin", "NAME": "two words"}


def test_copies_tell_their_stage() -> None:
    words = "[[each.stage, each.source, each.target] for each in map(copy, sys.argv[1:])]"
    assert answer(words, "--from=build /opt/venv /opt/venv", "locks/ locks/") == [
        ["build", "/opt/venv", "/opt/venv"],
        [None, "locks/", "locks/"],
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM python:3.11-slim-bookworm\n", "a stage needs a name"),
        ("FROM x AS a\nADD https://example.com/a /a\n", "line 2: ADD is not understood"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    asked = ask("list(read(Path(sys.argv[1])))", tmp_path / "Dockerfile")
    assert asked.returncode == 1
    assert reason in asked.stderr


@pytest.mark.parametrize("wrong", ["--chown=1 a b", "a b c/"])
def test_copies_that_would_do_more_are_refused(wrong: str) -> None:
    assert "NotUnderstood" in ask("str(copy(sys.argv[1]))", wrong).stderr


def test_nothing_stands_in_for_another_base() -> None:
    assert BaseImage.named(f"python:3.11-slim-bookworm@sha256:{'ab' * 32}").release == "bookworm"
    with pytest.raises(CannotBuild, match="alpine"):
        BaseImage.named("python:3.11-alpine")


def test_mounts_get_their_places(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "pepper").touch()
    mounts = Mounts({"/run/secrets/PEPPER": tmp_path / "pepper"}, {"/data": tmp_path / "volume"}, ["/tmp"])
    mounts.make_places(tmp_path / "root")
    assert (tmp_path / "root/run/secrets/PEPPER").is_file()
    assert (tmp_path / "root/data").is_dir()
    assert mounts.options() == [
        *("--ro-bind", f"{tmp_path}/pepper", "/run/secrets/PEPPER", "--bind", f"{tmp_path}/volume", "/data"),
        *("--perms", "1777", "--tmpfs", "/tmp"),
    ]
