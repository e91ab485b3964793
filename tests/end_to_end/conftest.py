"""The whole stack, started once the way a user starts it: real Valkey, vLLM, gateway and Celery worker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.end_to_end.trace_collector import TraceCollector

REPOSITORY = Path(__file__).parents[2]
TEXT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
START_TIMEOUT_S = 600
SLOW_S = 900
"""What one test may take, the start of its engines included."""


@dataclass(frozen=True)
class Stack:
    home: Path
    base_url: str
    api_key: str
    environment: dict[str, str]
    traces: TraceCollector

    def client(self, api_key: str | None = None, **options: object) -> OpenAI:
        defaults = {"max_retries": 0, "timeout": 300}
        return OpenAI(base_url=self.base_url, api_key=api_key or self.api_key, **{**defaults, **options})

    @property
    def local(self) -> dict[str, Any]:
        """What `flywheel up` wrote to local.json: addresses, a key, ports, settings, process ids."""
        told: dict[str, Any] = json.loads((self.home / "local.json").read_text())
        return told

    def flywheel(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What `flywheel …` prints."""
        run = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=2 * SLOW_S,
            check=False,
        )
        assert not check or run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    def new_key(self, *options: str) -> tuple[str, str]:
        """A fresh key's id and secret."""
        words = self.flywheel("keys", "create", "--name", "test", *options).replace(":", " ").split()
        return tuple(next(word for word in words if word.startswith(start)) for start in ("key_", "sk-fw-"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    traces = TraceCollector()
    environment = {
        **os.environ,
        "FLYWHEEL_HOME": str(home),
        "FLYWHEEL_TELEMETRY__OTLP_ENDPOINT": traces.endpoint,
        "COLUMNS": "200",
    }
    stack = Stack(home, "", "", environment, traces)
    try:
        print(stack.flywheel("up", "--port", "0"))
        yield Stack(home, stack.local["base_url"], stack.local["api_key"], environment, traces)
    finally:
        print(stack.flywheel("down", check=False))
        traces.close()


@pytest.fixture(scope="session")
def client(stack: Stack) -> OpenAI:
    return stack.client()


def wait_for(condition: Callable[[], object], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s"
        time.sleep(0.1)
