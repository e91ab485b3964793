"""What commands say: settings, and errors of one clear line with what to do."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Flywheel


@pytest.fixture
def nobody() -> Iterator[str]:
    """A base URL where nothing answers."""
    with socket.socket() as program:
        program.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{program.getsockname()[1]}/v1"


def test_config_tells_value_source_and_meaning_and_masks_secrets(flywheel: Flywheel) -> None:
    done = flywheel("config", FLYWHEEL_GATEWAY__PORT="8123", FLYWHEEL_AUTH__PEPPER="x" * 40)
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    assert rows["FLYWHEEL_GATEWAY__PORT"] == ["8123", "environment", "Port to listen on."]
    assert rows["FLYWHEEL_ENGINE__PORT"][:2] == ["8100", "default"]
    assert rows["FLYWHEEL_AUTH__PEPPER"][:2] == ["********", "environment"]
    assert "xxxx" not in done.stdout
    assert all(len(row) == 3 and row[2] for row in rows.values())


def test_config_shows_what_the_local_stack_uses(flywheel: Flywheel, tmp_path: Path) -> None:
    settings = {"FLYWHEEL_REDIS_URL": "redis://127.0.0.1:6391/0"}
    stack = {"base_url": "", "api_key": "", "pids": {}, "ports": {}, "logs": {}, "settings": settings}
    (tmp_path / "local.json").write_text(json.dumps(stack))
    assert "FLYWHEEL_REDIS_URL\tredis://127.0.0.1:6391/0\tlocal stack" in flywheel("config").stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("status",), "make up"),
        (("models",), "make up"),
        (("chat", "hello"), "make up"),
        (("finetune", "no-such-file.jsonl"), "no file no-such-file.jsonl"),
        (("keys", "list"), "make up"),
        (("keys", "create", "--scope", "root"), "inference, jobs, admin"),
        (("keys", "create", "--expires-in", "soon"), "90d"),
    ],
)
def test_an_error_says_what_to_do_and_shows_no_traceback(
    flywheel: Flywheel, command: tuple[str, ...], says: str
) -> None:
    done = flywheel(*command)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_wrong_setting_is_named(flywheel: Flywheel) -> None:
    done = flywheel("config", FLYWHEEL_GATEWAY__PORT="eighty")
    assert (done.returncode, "FLYWHEEL_GATEWAY__PORT" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", [("models",), ("chat", "hello")])
def test_a_gateway_that_does_not_answer_is_named(flywheel: Flywheel, nobody: str, command: tuple[str, ...]) -> None:
    done = flywheel(*command, FLYWHEEL_BASE_URL=nobody, FLYWHEEL_API_KEY="sk-fw-x")
    assert done.returncode == 1
    assert f"Nothing answers at {nobody}." in done.stderr


def test_half_an_address_is_refused(flywheel: Flywheel, nobody: str) -> None:
    assert "FLYWHEEL_API_KEY is not set" in flywheel("models", FLYWHEEL_BASE_URL=nobody).stderr


def test_down_without_a_stack_is_no_error(flywheel: Flywheel) -> None:
    done = flywheel("down")
    assert (done.returncode, done.stdout) == (0, "Nothing runs.\n")
