"""The whole stack, started once the way a user starts it: real Valkey, vLLM, gateway and Celery worker.

With FLYWHEEL_TEST_TWO_OF_EACH=1 it has two gateways behind nginx, two engines, three workers and PostgreSQL, and keeps
its artifacts in S3.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.end_to_end.trace_collector import TraceCollector
from tests.end_to_end.two_of_each import SecondOfEach, second_of_each
from tests.postgres_process import PostgresProcess
from tests.s3_server import BUCKET, S3Server

REPOSITORY = Path(__file__).parents[2]
TEXT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
START_TIMEOUT_S = 600
SLOW_S = 900
"""What one test may take, the start of its engines included."""
TWO_OF_EACH = os.environ.get("FLYWHEEL_TEST_TWO_OF_EACH") == "1"


@dataclass(frozen=True)
class Stack:
    home: Path
    base_url: str
    api_key: str
    environment: dict[str, str]
    traces: TraceCollector
    postgres: PostgresProcess | None = None
    second: SecondOfEach | None = None

    @property
    def gateway_urls(self) -> list[str]:
        first = str(self.local["base_url"]).removesuffix("/v1")
        return [first] if self.second is None else [first, self.second.gateway_url]

    def metrics(self) -> str:
        """Of all gateways, one after another."""
        return "\n".join(httpx.get(f"{url}/metrics").text for url in self.gateway_urls)

    def client(self, api_key: str | None = None, **options: object) -> OpenAI:
        defaults = {"max_retries": 0, "timeout": 300}
        return OpenAI(base_url=self.base_url, api_key=api_key or self.api_key, **{**defaults, **options})

    @property
    def local(self) -> dict[str, Any]:
        """What `flywheel up` wrote to local.json: addresses, a key, ports, settings, process ids."""
        told: dict[str, Any] = json.loads((self.home / "local.json").read_text())
        return told

    def settings(self) -> dict[str, str]:
        """All that a process needs to belong to this stack."""
        secrets = dict(line.split("=", 1) for line in (self.home / "secrets").read_text().splitlines() if "=" in line)
        own = {name: value for name, value in self.environment.items() if name.startswith("FLYWHEEL_")}
        return own | secrets | self.local["settings"]

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
    with ExitStack() as resources:
        traces = TraceCollector()
        resources.callback(traces.close)
        environment = {
            **os.environ,
            "FLYWHEEL_HOME": str(home),
            "FLYWHEEL_TELEMETRY__OTLP_ENDPOINT": traces.endpoint,
            "COLUMNS": "200",
        }
        postgres = None
        if TWO_OF_EACH:
            s3 = S3Server(log=tmp_path_factory.mktemp("s3") / "server.log")
            resources.callback(s3.stop)
            s3.be_found(resources.enter_context(pytest.MonkeyPatch.context()))  # the second of each inherit it
            environment |= s3.settings | {"FLYWHEEL_ARTIFACTS_URL": f"s3://{BUCKET}/artifacts"}
            postgres = PostgresProcess()
            resources.callback(postgres.remove)
            environment["FLYWHEEL_DATABASE_URL"] = resources.enter_context(postgres.new_database())
            environment["FLYWHEEL_ENGINE__KV_CACHE_GIB"] = "1"  # of each of the engines, on one machine
        stack = Stack(home, "", "", environment, traces, postgres)
        resources.callback(lambda: print(stack.flywheel("down", check=False)))
        print(stack.flywheel("up", "--port", "0"))
        stack = replace(stack, base_url=stack.local["base_url"], api_key=stack.local["api_key"])
        if TWO_OF_EACH:
            beside = second_of_each(stack.settings(), TEXT_MODEL, tmp_path_factory.mktemp("second"))
            second = resources.enter_context(beside)
            stack = replace(stack, base_url=second.base_url, second=second)
        yield stack


@pytest.fixture(scope="session")
def client(stack: Stack) -> OpenAI:
    return stack.client()


def wait_for(condition: Callable[[], object], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s"
        time.sleep(0.1)
