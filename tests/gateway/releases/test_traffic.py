"""What a release does to requests."""

import asyncio
import time
from collections import Counter

import pytest

from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card, wait_until
from tests.gateway.releases.conftest import ALIAS, CANDIDATE, RELEASES, Releasing, short_policy
from tests.gateway.test_relay import events_of
from tests.gateway_process import GatewayProcess

USERS = [f"user-{number}" for number in range(120)]


async def models_of_users(releasing: Releasing) -> dict[str, str]:
    async with releasing.client() as client:
        answers = await asyncio.gather(*(releasing.ask(client, user) for user in USERS))
    assert {answer.status_code for answer in answers} == {200}
    return {user: answer.headers["x-flywheel-model"] for user, answer in zip(USERS, answers, strict=True)}


async def settle() -> None:
    """As long as a gateway takes to find out by itself, without news."""
    await asyncio.sleep(1.2)


async def test_users_keep_the_candidate_while_its_share_grows_and_lose_it_at_a_roll_back(releasing: Releasing):
    release = releasing.start(policy=short_policy(0.1, 0.5))
    assert set((await models_of_users(releasing)).values()) == {MODEL}
    releasing.put_in(release, "canary", 0)
    await settle()
    tenth = await models_of_users(releasing)
    releasing.put_in(release, "canary", 1)
    await settle()
    half = await models_of_users(releasing)
    again = await models_of_users(releasing)
    metrics = releasing.http.get(f"{releasing.gateway.url}/metrics").text

    assert 3 <= Counter(tenth.values())[CANDIDATE] <= 25  # 12 expected
    assert 40 <= Counter(half.values())[CANDIDATE] <= 80
    assert all(half[user] == CANDIDATE for user in USERS if tenth[user] == CANDIDATE)
    assert again == half
    assert f'flywheel_release_share{{alias="{ALIAS}",model="{CANDIDATE}",state="canary"}} 0.5' in metrics
    releasing.call("POST", f"{RELEASES}/{release}/rollback")
    assert set((await models_of_users(releasing)).values()) == {MODEL}


@pytest.mark.parametrize(
    ("stream", "failure"),
    [
        (False, {"status": 500}),
        (True, {"close_before_headers": True}),
        (False, {"garbage": "head"}),
        (True, {"close_after_chunks": 0}),
    ],
    ids=str,
)
async def test_a_candidate_that_fails_is_replaced_by_the_stable_model_and_counted(
    releasing: Releasing, stream: bool, failure: dict
):
    release = releasing.start(policy=short_policy(1.0))
    releasing.put_in(release, "canary")
    await settle()
    releasing.candidate.behaviour(**failure)
    async with releasing.client() as client:
        answers = [await releasing.ask(client, user, stream=stream) for user in USERS[:8]]

    assert {(answer.status_code, answer.headers["x-flywheel-model"]) for answer in answers} == {(200, MODEL)}
    assert all("error" not in answer.text for answer in answers)
    wait_until(lambda: releasing.release(release)["figures"]["candidate"]["errors"] == 8)
    figures = releasing.release(release)["figures"]
    assert (figures["candidate"]["requests"], figures["stable"]["requests"]) == (8, 0)


async def test_a_key_that_may_use_the_alias_only_gets_the_stable_model_too(releasing: Releasing):
    release = releasing.start(policy=short_policy(1.0))
    releasing.put_in(release, "canary")
    await settle()
    releasing.candidate.behaviour(status=500)
    narrow = releasing.gateway.new_key(tenant=releasing.tenant, models=[ALIAS])
    async with releasing.gateway.client(narrow.secret) as client:
        answer = await client.post(CHAT, json=chat_body(model=ALIAS))
    assert (answer.status_code, answer.headers["x-flywheel-model"]) == (200, MODEL)


async def test_a_candidate_without_an_engine_is_replaced_at_once(releasing: Releasing, redis_sync):
    releasing.serving.register(redis_sync, model_card("nowhere", on_demand=True))
    wait_until(lambda: "nowhere" in releasing.serving.models())
    release = releasing.start(candidate="nowhere", policy=short_policy(1.0))
    releasing.put_in(release, "canary")
    await settle()
    began = time.monotonic()
    async with releasing.client() as client:
        answer = await releasing.ask(client, "user-1")
    assert (answer.status_code, answer.headers["x-flywheel-model"]) == (200, MODEL)
    assert time.monotonic() - began < 2


async def test_only_what_engines_answered_or_failed_to_answer_counts(releasing: Releasing):
    release = releasing.start(policy=short_policy(1.0))
    releasing.put_in(release, "canary")
    await settle()
    async with releasing.client() as client:
        await releasing.ask(client, "stream", stream=True)
        await releasing.ask(client, "whole")
        for _ in range(3):  # the first is generated, the others are not
            await releasing.ask(client, "again", temperature=0)
        await client.post(CHAT, json=chat_body(model=ALIAS, temperature=9))
        await client.post(CHAT, json=chat_body(model=CANDIDATE))  # by its own name
        await client.post(CHAT, json=chat_body(model=MODEL))
        releasing.candidate.behaviour(status=400)
        await releasing.ask(client, "refused")
        releasing.candidate.behaviour(close_after_chunks=3)
        broken = await releasing.ask(client, "broken", stream=True)
        assert "error" in events_of(broken.text)[-1]
    await settle()
    figures = releasing.release(release)["figures"]["candidate"]

    assert (figures["requests"], figures["errors"]) == (4, 1)
    assert sum(figures["time_to_first_token"].values()) == 1
    assert sum(figures["tokens_per_second"].values()) == 3


async def test_in_the_shadow_users_get_the_stable_model_and_the_candidate_gets_copies(releasing: Releasing):
    release = releasing.start(policy=short_policy(shadow={"share": 1.0}))
    releasing.put_in(release, "shadow")
    await settle()
    async with releasing.client() as client:
        for failure in ({}, {"status": 500}, {"close_after_chunks": 2}):
            releasing.candidate.behaviour(**failure)
            for user in USERS[:4]:
                answer = await releasing.ask(client, user, stream=True)
                assert (answer.status_code, answer.headers["x-flywheel-model"]) == (200, MODEL)
    wait_until(lambda: releasing.release(release)["figures"]["candidate"]["requests"] == 12)
    wait_until(lambda: releasing.release(release)["figures"]["stable"]["requests"] == 12)
    figures = releasing.release(release)["figures"]

    assert (figures["stable"]["errors"], figures["candidate"]["errors"]) == (0, 8)
    assert sum(figures["candidate"]["time_to_first_token"].values()) == 4
    assert len(releasing.candidate.requests()) == 12


async def test_a_roll_back_by_hand_reaches_every_gateway_under_load_within_a_second(
    releasing: Releasing, second: GatewayProcess
):
    release = releasing.start(policy=short_policy(0.5))
    releasing.put_in(release, "canary")
    await settle()
    answered: list[tuple[float, int, str]] = []
    over = asyncio.Event()

    async def load(gateway: GatewayProcess, number: int) -> None:
        async with releasing.client(gateway) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = await releasing.ask(client, f"user-{number}", stream=bool(number % 2))
                answered.append((began, answer.status_code, answer.headers["x-flywheel-model"]))

    gateways = (releasing.gateway, second)
    running = [asyncio.create_task(load(gateway, number)) for number in range(12) for gateway in gateways]
    async with asyncio.timeout(30):
        while sum(model == CANDIDATE for _, _, model in answered) < 20:
            await asyncio.sleep(0.1)
    rolled_back = await asyncio.to_thread(releasing.call, "POST", f"{RELEASES}/{release}/rollback")
    at = time.monotonic()
    await asyncio.sleep(1.5)
    over.set()
    await asyncio.gather(*running)

    assert rolled_back.status_code == 200
    assert {status for _, status, _ in answered} == {200}
    late = [began - at for began, _, model in answered if model == CANDIDATE and began > at]
    assert max(late, default=0.0) < 1.0
    print(f"last request to the candidate began {max(late, default=0.0) * 1000:.0f} ms after the roll-back's answer")


async def test_a_roll_back_counts_within_a_second_where_its_news_is_lost(releasing: Releasing):
    release = releasing.start(policy=short_policy(1.0))
    releasing.put_in(release, "canary")
    await settle()
    async with releasing.client() as client:
        assert (await releasing.ask(client, "user-1")).headers["x-flywheel-model"] == CANDIDATE
        releasing.put_in(release, "rolled_back")  # in SQL alone
        await settle()
        assert (await releasing.ask(client, "user-1")).headers["x-flywheel-model"] == MODEL
