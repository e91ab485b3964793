"""Two real engines, one of which is killed in the middle of its answers."""

import json
import os
import signal
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from openai import OpenAI

from tests.end_to_end.conftest import REPOSITORY, SLOW_S, START_TIMEOUT_S, TEXT_MODEL, Stack, wait_for
from tests.processes import Process, free_port

pytestmark = [pytest.mark.real_stack, pytest.mark.timeout(SLOW_S)]
TOKENS = 120


def live_engines(stack: Stack) -> int:
    time.sleep(0.5)  # whoever asks for metrics without a pause is slowed down
    metrics = httpx.get(stack.base_url.removesuffix("/v1") + "/metrics").text
    found = [line for line in metrics.splitlines() if line.startswith(f'flywheel_engines{{model="{TEXT_MODEL}"}}')]
    return int(float(found[0].split()[-1])) if found else 0


def requests_running(port: int) -> float:
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    line = next(line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running"))
    return float(line.split()[-1])


def kill_vllm(port: int) -> None:
    """As the kernel does when memory runs out: without a word, and all of it."""
    servers = [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if "vllm.entrypoints.openai.api_server" in (process.info["cmdline"] or ())
        and str(port) in process.info["cmdline"]
    ]
    assert len(servers) == 1
    os.killpg(servers[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def engine_ports(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    local = json.loads((stack.home / "local.json").read_text())
    port = free_port()
    second = Process(
        [str(REPOSITORY / ".flywheel/envs/engine/bin/python"), "-m", "inference.agent", TEXT_MODEL],
        log=tmp_path_factory.mktemp("second-engine") / "engine.log",
        environment=local["settings"] | {"FLYWHEEL_ENGINE__PORT": str(port), "FLYWHEEL_ENGINE__KV_CACHE_GIB": "1"},
    )
    try:
        second.wait_until(lambda: live_engines(stack) == 2, timeout_s=START_TIMEOUT_S)
        yield local["ports"]["engine"], port
    finally:
        second.stop()
        wait_for(lambda: live_engines(stack) == 1, timeout_s=START_TIMEOUT_S, what="one engine again")


def answer(client: OpenAI, question: str, *, stream: bool) -> object:
    return client.chat.completions.create(
        model=TEXT_MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=TOKENS,
        stream=stream,
        extra_headers={"cache-control": "no-store"},
    )


@pytest.mark.parametrize("cut_after", [3, 40])
def test_an_engine_that_is_killed_goes_unnoticed(
    stack: Stack, client: OpenAI, engine_ports: tuple[int, int], cut_after: int
):
    question = f"Write {cut_after} sentences about the sea and its ships."
    whole = answer(client, question, stream=False).choices[0].message.content
    told, finish_reasons = [], []
    for number, chunk in enumerate(answer(client, question, stream=True)):
        told.append(chunk.choices[0].delta.content or "")
        finish_reasons += [reason for reason in [chunk.choices[0].finish_reason] if reason]
        if number == cut_after:
            kill_vllm(next(port for port in engine_ports if requests_running(port) > 0))

    assert "".join(told) == whole
    assert finish_reasons == ["length"]
    wait_for(lambda: live_engines(stack) == 2, timeout_s=START_TIMEOUT_S, what="the killed engine is back")
