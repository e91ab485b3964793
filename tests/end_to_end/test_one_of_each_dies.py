"""Two gateways, two engines, three workers and PostgreSQL, of which one of each is killed: nothing is lost.

`tests/faults` kills the same with engines that are fake, more often and sooner. Runs by `make test-two-of-each`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from openai import OpenAI

from tests.end_to_end.conftest import REPOSITORY, SLOW_S, TEXT_MODEL, TWO_OF_EACH, Stack, wait_for
from tests.end_to_end.two_of_each import engines_known

pytestmark = [
    pytest.mark.real_stack,
    pytest.mark.long,
    pytest.mark.timeout(2 * SLOW_S),
    pytest.mark.skipif(not TWO_OF_EACH, reason="FLYWHEEL_TEST_TWO_OF_EACH is not set"),
]
AWAY_S = 5.0
USERS = 2


def streamed(client: OpenAI, question: str) -> str:
    request = {"model": TEXT_MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": 8}
    words, ended = [], []
    for chunk in client.chat.completions.create(**request, stream=True):
        words += [choice.delta.content or "" for choice in chunk.choices]
        ended += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    assert ended in (["stop"], ["length"])
    return "".join(words)


def whole(client: OpenAI, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=TEXT_MODEL, messages=messages, max_tokens=8)
    return answer.choices[0].message.content or ""


@contextmanager
def users(stack: Stack, ask: Callable[[OpenAI, str], str] = streamed, *, retries: int = 0) -> Iterator[list[str]]:
    """Two that ask without end; whatever they could not get fails the test at the end."""
    stopped, errors, answers = threading.Event(), [], []

    def talk(number: int) -> None:
        client = stack.client(max_retries=retries)
        for turn in range(10_000):
            if stopped.is_set():
                return
            try:
                answers.append(ask(client, f"User {number}, question {turn}: what is a ship?"))
            except (openai.OpenAIError, httpx.HTTPError, AssertionError) as error:
                errors.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(USERS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: answers or errors, timeout_s=SLOW_S, what="a first answer")
        yield answers
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert errors == []


def kill(pid: int) -> None:
    """With all its children, as when a machine is gone."""
    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        process.kill()


def more(answers: list[str], count: int = 4) -> Callable[[], bool]:
    asked = len(answers)
    return lambda: len(answers) >= asked + count


def test_users_do_not_notice_that_an_engine_dies(stack: Stack):
    first = stack.local["pids"][f"engine {TEXT_MODEL}"]
    with users(stack) as answers:
        kill(first)
        wait_for(more(answers), timeout_s=SLOW_S, what="answers of the other engine")
        url = stack.gateway_urls[1]
        wait_for(lambda: engines_known(url, TEXT_MODEL) == 2, timeout_s=SLOW_S, what="the killed engine is back")


def test_clients_that_try_again_do_not_notice_that_a_gateway_dies(stack: Stack):
    """A stream that had begun breaks off with its gateway: nobody can go on with it."""
    url = stack.gateway_urls[0]
    with users(stack, whole, retries=2) as answers:
        kill(stack.local["pids"]["gateway"])
        wait_for(more(answers), timeout_s=SLOW_S, what="answers of the other gateway")
        wait_for(lambda: engines_known(url, TEXT_MODEL) == 2, timeout_s=SLOW_S, what="the killed gateway is back")


def test_a_killed_workers_fine_tuning_is_ended_by_another_one(stack: Stack, client: OpenAI):
    assert stack.second is not None
    rows = (REPOSITORY / "examples/ships_computer.jsonl").open("rb")
    file = client.files.create(file=rows, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=TEXT_MODEL, training_file=file.id, suffix="killed", seed=1)

    def steps() -> list[int]:
        events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
        return [event.data["step"] for event in events if "train_loss" in event.data]

    wait_for(lambda: len(steps()) >= 2, timeout_s=SLOW_S, what="two steps")
    kill(worker_of(stack, job.id))
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"),
        timeout_s=2 * SLOW_S,
        what="the end of the job",
    )

    ended = client.fine_tuning.jobs.retrieve(job.id)
    assert ended.status == "succeeded", ended.error
    wait_for(lambda: client.models.retrieve(ended.fine_tuned_model).state == "live", timeout_s=60, what="the adapter")


def worker_of(stack: Stack, job: str) -> int:
    """The process id of the one that began it."""
    assert stack.second is not None
    pids = {Path(stack.local["logs"]["worker"]): stack.local["pids"]["worker"]}
    pids |= {worker.log: worker.pid for worker in stack.second.workers}

    def began(log: Path) -> bool:
        return any("job started" in line and job in line for line in log.read_text().splitlines())

    return next(pid for log, pid in pids.items() if began(log))


def test_without_postgres_users_are_answered_and_afterwards_everything_is_there(stack: Stack, client: OpenAI):
    assert stack.postgres is not None
    file = client.files.create(file=(REPOSITORY / "examples/ships_computer.jsonl").open("rb"), purpose="fine-tune")
    with users(stack) as answers:
        stack.postgres.kill()
        time.sleep(AWAY_S)
        wait_for(more(answers), timeout_s=SLOW_S, what="answers without a database")
        stack.postgres.start()
        wait_for(more(answers), timeout_s=SLOW_S, what="answers with the database again")

    assert client.files.content(file.id).read() == (REPOSITORY / "examples/ships_computer.jsonl").read_bytes()


def test_without_valkey_users_are_answered_and_afterwards_jobs_run(stack: Stack, client: OpenAI):
    with users(stack) as answers:
        kill(stack.local["pids"]["valkey"])
        time.sleep(AWAY_S)
        wait_for(more(answers), timeout_s=SLOW_S, what="answers")

    file = client.files.create(file=(REPOSITORY / "examples/ships_computer.jsonl").open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=TEXT_MODEL, training_file=file.id, hyperparameters={"n_epochs": 1}, suffix="after"
    )
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"),
        timeout_s=2 * SLOW_S,
        what="the end of a job",
    )
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
