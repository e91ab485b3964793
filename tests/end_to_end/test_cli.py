"""The commands, against the real stack."""

import pytest

from tests.end_to_end.conftest import EMBEDDING_MODEL, SLOW_S, TEXT_MODEL, Stack

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]


def test_status_and_models_tell_what_runs(stack: Stack):
    status = stack.flywheel("status")
    models = stack.flywheel("models")

    for service in ("valkey", "gateway", "worker", "engine"):
        assert service in status
    assert TEXT_MODEL in models
    assert EMBEDDING_MODEL in models


def test_chat_answers(stack: Stack):
    assert "hello" in stack.flywheel("chat", "Say hello.").lower()


def test_config_tells_values_and_sources_and_no_secret(stack: Stack):
    output = stack.flywheel("config")

    assert "FLYWHEEL_LIMITS__REQUESTS_PER_MINUTE" in output
    assert "environment" in output
    assert stack.api_key not in output


def test_starting_again_says_that_it_runs_and_the_key_works(stack: Stack):
    output = stack.flywheel("up", "--port", "0")

    assert stack.local["base_url"] in output
    stack.client(stack.local["api_key"]).models.list()


def test_local_json_is_for_its_owner_only(stack: Stack):
    local = stack.home / "local.json"

    assert local.stat().st_mode & 0o077 == 0
    assert stack.local["pids"]
