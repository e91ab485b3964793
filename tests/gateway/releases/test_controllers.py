"""Real gateways, controllers and fake engines: what a release comes to by itself, while a client asks all the time."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from contracts.jobs import Job
from store.jobs import JobRepository
from store.release_figures import ReleaseFigures
from tests.gateway.conftest import MODEL, wait_until
from tests.gateway.releases.conftest import CANDIDATE, Releasing, short_policy
from tests.gateway.test_files import ROW, jsonl
from tests.processes import Process

CLIENTS = 6
END_S = 60.0
HEARD_S = 0.5
"""As long as gateways may take to hear of the end, and longer."""


class Answered(NamedTuple):
    began_at: float
    status: int
    model: str
    text: str


@asynccontextmanager
async def load(releasing: Releasing) -> AsyncIterator[list[Answered]]:
    """Clients that ask for as long as the block lasts."""
    answered: list[Answered] = []
    over = asyncio.Event()
    users = itertools.count()

    async def ask_on(number: int) -> None:
        async with releasing.client() as client:
            while not over.is_set():
                began = time.monotonic()
                answer = await releasing.ask(client, f"user-{next(users) % 500}", stream=bool(number % 2))
                model = answer.headers.get("x-flywheel-model", "")
                answered.append(Answered(began, answer.status_code, model, answer.text))

    running = [asyncio.create_task(ask_on(number)) for number in range(CLIENTS)]
    try:
        yield answered
    finally:
        over.set()
        await asyncio.gather(*running)


async def end_of(releasing: Releasing, release: str) -> dict[str, Any]:
    async with asyncio.timeout(END_S):
        while (found := await asyncio.to_thread(releasing.release, release))["finished_at"] is None:
            await asyncio.sleep(0.2)
    return found


def nobody_saw_an_error(answered: list[Answered]) -> None:
    assert len(answered) > 50
    assert {answer.status for answer in answered} == {200}
    assert not [answer for answer in answered if '"error"' in answer.text]


def models_since(answered: list[Answered], at: float) -> set[str]:
    return {answer.model for answer in answered if answer.began_at > at + HEARD_S}


SHADOW = {"share": 0.5, "min_requests": 20, "min_duration_s": 0}
LIVE = {
    "error_rate": {"max_increase": 0.3},
    "time_to_first_token": {"max_ratio": 4},
    "tokens_per_second": {"min_ratio": 0.1},
}


async def test_a_good_candidate_goes_all_the_way_to_its_promotion(
    releasing: Releasing, start_controller: Callable[[], Process]
):
    start_controller()
    for engine in (releasing.candidate, releasing.serving.engine):
        engine.behaviour(time_to_first_token_s=0.02, time_between_tokens_s=0.002)
    release = releasing.start(policy=short_policy(0.2, 0.5, shadow=SHADOW, live=LIVE))
    async with load(releasing) as answered:
        found = await end_of(releasing, release)
        ended_at = time.monotonic()
        await asyncio.sleep(2 * HEARD_S)
    nobody_saw_an_error(answered)

    assert releasing.states(release) == ["built", "evaluated", "shadow", "canary-0", "canary-1", "promoted"]
    assert models_since(answered, ended_at) == {CANDIDATE}
    assert {move["actor"] for move in found["moves"][1:]} == {"controller"}
    for move in found["moves"][3:]:
        evidence = move["evidence"]
        assert evidence["candidate"]["requests"] >= 20
        assert {gate["verdict"] for gate in evidence["gates"]} == {"pass"}
    assert {gate["gate"] for gate in found["moves"][-1]["evidence"]["gates"]} == set(LIVE)
    assert found["controlled"] is True


@pytest.mark.parametrize(
    ("behaviour", "gate"),
    [
        ({"status": 500}, "error_rate"),
        ({"time_to_first_token_s": 0.25}, "time_to_first_token"),
        ({"time_between_tokens_s": 0.05}, "tokens_per_second"),
    ],
    ids=["errors", "late", "slow"],
)
async def test_a_bad_candidate_is_rolled_back_by_itself_and_no_client_sees_an_error(
    releasing: Releasing, start_controller: Callable[[], Process], behaviour: dict, gate: str
):
    start_controller()
    releasing.serving.engine.behaviour(time_to_first_token_s=0.01, time_between_tokens_s=0.001)
    releasing.candidate.behaviour(**{"time_to_first_token_s": 0.01, "time_between_tokens_s": 0.001} | behaviour)
    release = releasing.start(policy=short_policy(0.5, live=LIVE))
    async with load(releasing) as answered:
        found = await end_of(releasing, release)
        ended_at = time.monotonic()
        await asyncio.sleep(2 * HEARD_S)
    nobody_saw_an_error(answered)

    assert releasing.states(release) == ["built", "evaluated", "canary-0", "rolled_back"]
    assert models_since(answered, ended_at) == {MODEL}
    (failed,) = [each for each in found["moves"][-1]["evidence"]["gates"] if each["verdict"] == "fail"]
    assert failed["gate"] == gate
    assert failed["rule"] in found["moves"][-1]["reason"]


async def test_controllers_race_and_die_and_each_move_is_made_once(
    releasing: Releasing, start_controller: Callable[[], Process], redis
):
    stages = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    controllers = [start_controller() for _ in range(3)]
    release = releasing.start(policy=short_policy(*stages, shadow=SHADOW))
    passed = {"requests": 200, "errors": 1}
    names = ["shadow", *(f"canary-{stage}" for stage in range(len(stages)))]
    wait_until(lambda: len(releasing.rows.moves(release)) > 1, timeout_s=30)
    for number, name in enumerate(names):
        if number == len(names) // 2:
            controllers[0].kill()
        await ReleaseFigures(redis).add({(release, name, arm): passed for arm in ("stable", "candidate")})
    found = await end_of(releasing, release)

    assert releasing.states(release) == ["built", "evaluated", *names, "promoted"]
    assert [move["version"] for move in found["moves"]] == sorted({move["version"] for move in found["moves"]})
    assert releasing.call("GET", "/v1/flywheel/aliases/assistant").json()["model"] == CANDIDATE


async def test_of_controllers_that_begin_an_evaluation_at_once_one_jobs_result_counts(
    releasing: Releasing, start_controller: Callable[[], Process]
):
    for _ in range(3):
        start_controller()
    async with releasing.client() as client:
        uploaded = await client.post(
            "/v1/files", files={"file": ("held-out.jsonl", jsonl(*[ROW] * 12))}, data={"purpose": "fine-tune"}
        )
    evaluation = {"similarity": {"min_difference": -0.1}}
    release = releasing.start(policy=short_policy(evaluation=evaluation), evaluation_file=uploaded.json()["id"])
    wait_until(lambda: releasing.release(release)["evaluation_job"] is not None, timeout_s=30)
    await asyncio.sleep(1)

    jobs = JobRepository(releasing.gateway.database)
    theirs: list[Job] = jobs.page(tenant=releasing.tenant, family="evaluate.")
    assert [job.id for job in theirs if job.status == "queued"] == [releasing.release(release)["evaluation_job"]]
    assert releasing.release(release)["evaluation"]["status"] == "queued"
    assert jobs.page(tenant=releasing.tenant, family="finetune.") == []
    assert releasing.states(release) == ["built"]
    assert releasing.call("GET", "/v1/fine_tuning/jobs").json()["data"] == []

    releasing.call("POST", f"/v1/flywheel/releases/{release}/rollback")
    wait_until(lambda: jobs.get(theirs[0].id).status == "cancelled")
