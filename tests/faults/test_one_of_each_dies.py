"""One of each is killed with SIGKILL, in turn, and nothing that was promised is lost."""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.faults.two_of_each import TwoOfEach
from tests.gateway.conftest import MODEL
from tests.postgres_process import PostgresProcess
from tests.tenant_data import ROWS

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
LONG_S = 120.0
APPENDED_S = 1.5
"""Valkey's file is on the disk each second."""
LOCAL_S = 6.0
"""Longer than a gateway holds answers by itself, and than it takes to find that Valkey is back."""
TOKENS = 40


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoOfEach]:
    postgres = PostgresProcess()
    with postgres.new_database() as url:
        stack = TwoOfEach(tmp_path_factory.mktemp("two-of-each"), postgres, url)
        for gateway in stack.gateways:
            stack.wait_for(lambda gateway=gateway: _engines_of(stack, gateway) == 2, what="two engines")
        yield stack
        stack.stop()
    postgres.remove()


def _engines_of(stack: TwoOfEach, gateway: object) -> int:
    return int(httpx.get(f"{gateway.url}/health/ready", timeout=10).json()["engines"])


def text_of(stream: str) -> str:
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_killed_workers_job_is_ended_by_another_one(stack: TwoOfEach):
    long, short = stack.submit(seconds=LONG_S), [stack.submit(seconds=0.1) for _ in range(3)]
    stack.wait_for(lambda: any("torch imported" in event.message for event in stack.jobs.events(long.id)), what="start")
    worker = stack.worker_of(long)
    for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
        process.kill()
    worker.kill()
    for job in (long, *short):
        stack.wait_for(lambda job=job: stack.status(job) == "succeeded", what=f"the job {job.id}")


def test_a_killed_engines_streams_go_on_from_the_other_one(stack: TwoOfEach):
    for engine in stack.engines:
        engine.behaviour(tokens=TOKENS, time_between_tokens_s=0.05)
    whole = stack.ask(stack.gateways[0], "Sing", stream=True, max_tokens=TOKENS)
    answers: list[httpx.Response] = []
    asking = [
        threading.Thread(
            target=lambda gateway=gateway: answers.append(stack.ask(gateway, "Sing", stream=True, max_tokens=TOKENS))
        )
        for gateway in stack.gateways * 2
    ]
    for thread in asking:
        thread.start()
    busy = stack.engines[1]
    stack.wait_for(lambda: any(not request["finished"] for request in busy.requests()), what="a stream of this engine")
    busy.process.kill()
    for thread in asking:
        thread.join()
    stack.engines[0].behaviour()

    assert [answer.status_code for answer in answers] == [200] * 4
    assert {text_of(answer.text) for answer in answers} == {text_of(whole.text)}
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


def test_the_other_gateway_knows_all_that_a_killed_one_was_told(stack: TwoOfEach):
    killed, other = stack.gateways
    file_id = stack.upload(killed)
    stack.ask(killed, "Remember", temperature=0)
    stack.wait_for(lambda: stack.is_kept(other, "Remember"), what="the kept answer")
    killed.process.kill()

    assert stack.content(other, file_id).content == ROWS
    assert stack.ask(other).status_code == 200


def test_without_valkey_answers_go_on_and_with_it_again_jobs_and_kept_answers_are_there(stack: TwoOfEach):
    gateway, kept = stack.gateways[1], "Remember me"
    stack.wait_for(lambda: stack.is_kept(gateway, kept), what="the kept answer")
    time.sleep(APPENDED_S)
    stack.valkey.kill()
    away = [stack.ask(gateway, f"Away {number}") for number in range(3)]
    stack.valkey.start()
    stack.lease_engines()
    time.sleep(LOCAL_S)
    job = stack.submit(seconds=0.1)

    assert [answer.status_code for answer in away] == [200] * 3
    assert stack.is_kept(gateway, kept)
    stack.wait_for(lambda: stack.status(job) == "succeeded", what="a job after the return")


def test_without_postgres_known_keys_are_answered_and_with_it_again_everything_is_there(stack: TwoOfEach):
    gateway = stack.gateways[1]
    file_id, job = stack.upload(gateway), stack.submit(seconds=0.1)
    stack.wait_for(lambda: stack.status(job) == "succeeded", what="the job")
    stack.ask(gateway)
    stack.postgres.kill()
    answered, refused = stack.ask(gateway, "Still there?"), stack.content(gateway, file_id)
    stack.postgres.start()
    stack.wait_for(lambda: stack.content(gateway, file_id).status_code == 200, what="the database")
    later = stack.submit(seconds=0.1)

    assert (answered.status_code, refused.status_code) == (200, 503)
    assert stack.content(gateway, file_id).content == ROWS
    assert stack.status(job) == "succeeded"
    stack.wait_for(lambda: stack.status(later) == "succeeded", what="a job after the return")
    models = httpx.get(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {stack.key.secret}"}).json()
    assert MODEL in {model["id"] for model in models["data"]}
