"""A gateway whose models have fallbacks, aliases and shadows."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway.routing.test_failing_engines import metric
from tests.gateway.test_relay import events_of

TABLE = {"FLYWHEEL_GATEWAY__ROUTING_FILE": str(Path(__file__).with_name("table.yaml"))}
pytestmark = pytest.mark.parametrize("gateway", [TABLE], indirect=True)


@pytest.fixture
def engine_of(serving: Serving, start_fake_engine, lease, redis_sync):
    """Starts an engine of another model, registered and alive."""

    def start(model: str):
        serving.register(redis_sync, model_card(model))
        engine = start_fake_engine(model=model)
        lease(engine)
        wait_until(lambda: serving.models().get(model) == "live")
        return engine

    return start


def register(serving: Serving, redis_sync, name: str) -> None:
    serving.register(redis_sync, model_card(name))
    wait_until(lambda: name in serving.models())


async def test_a_model_without_an_engine_is_answered_by_its_fallback(serving: Serving, redis_sync):
    register(serving, redis_sync, "orphan")
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="orphan", temperature=0))
        again = await client.post(CHAT, json=chat_body(model="orphan", temperature=0))
        own = await client.post(CHAT, json=chat_body())
        judged = await client.post("/v1/feedback", json={"response_id": answer.json()["id"], "rating": "up"})

    assert judged.json()["model"] == MODEL
    assert (answer.status_code, answer.headers["x-flywheel-model"], answer.json()["model"]) == (200, MODEL, MODEL)
    assert again.headers["x-flywheel-cache"] == "miss"  # what a fallback says is not kept as the model's own
    assert "x-flywheel-model" not in own.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [{"status": 500}, {"close_before_headers": True}, {"close_after_chunks": 0}])
async def test_a_model_that_fails_before_its_first_byte_is_replaced(
    serving: Serving, engine_of, stream: bool, failure: dict
):
    engine_of("flaky").behaviour(**failure)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="flaky", stream=stream))

    assert (answer.status_code, answer.headers["x-flywheel-model"]) == (200, MODEL)
    assert "error" not in answer.text


async def test_an_answer_that_has_begun_is_not_replaced(serving: Serving, engine_of):
    engine_of("flaky").behaviour(close_after_chunks=3)
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="flaky", stream=True))

    assert "error" in events_of(answer.text)[-1]
    assert serving.engine.requests() == []


async def test_a_mistake_of_the_client_is_not_asked_again(serving: Serving, engine_of):
    engine_of("flaky").behaviour(status=400, body={"error": {"message": "no such thing", "code": 400}})
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="flaky"))

    assert answer.status_code == 400
    assert serving.engine.requests() == []


async def test_a_key_that_may_not_use_the_fallback_does_not_get_it(serving: Serving, redis_sync):
    register(serving, redis_sync, "orphan")
    key = serving.gateway.new_key(models=["orphan"])
    async with serving.gateway.client(key.secret) as client:
        answer = await client.post(CHAT, json=chat_body(model="orphan"))

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_available")


async def test_an_alias_shares_its_users_by_weight_and_they_keep_their_model(serving: Serving, engine_of):
    candidate = engine_of("candidate")
    key = serving.gateway.new_key(models=["assistant"])
    async with serving.gateway.client(key.secret) as client:

        async def ask(user: str) -> str:
            answer = await client.post(CHAT, json=chat_body(f"{user}", model="assistant", user=user))
            assert answer.json()["model"] == answer.headers["x-flywheel-model"]
            return answer.headers["x-flywheel-model"]

        first = [await ask(f"user-{number}") for number in range(150)]
        second = [await ask(f"user-{number}") for number in range(20)]
        by_key = {
            (await client.post(CHAT, json=chat_body(model="assistant"))).headers["x-flywheel-model"] for _ in range(8)
        }
        direct = await client.post(CHAT, json=chat_body())

    assert 20 <= first.count("candidate") <= 56  # 37.5 expected; five standard deviations are 27
    assert second == first[:20]
    assert len(by_key) == 1
    assert direct.status_code == 404  # the key may use the alias only
    assert len(candidate.requests()) == (first + second).count("candidate") + 8 * (by_key == {"candidate"})


async def test_an_alias_shares_cached_answers_with_its_model(serving: Serving, engine_of, redis_sync):
    engine_of("candidate")
    async with serving.gateway.client() as client:
        answer = await client.post(CHAT, json=chat_body(model="assistant", temperature=0))
        model = answer.headers["x-flywheel-model"]
        wait_until(lambda: redis_sync.keys("*:cache:*"))  # kept after the last byte was sent
        direct = await client.post(CHAT, json=chat_body(model=model, temperature=0))

    assert direct.headers["x-flywheel-cache"] == "hit"
    assert direct.content == answer.content


@pytest.mark.parametrize(
    "behaviour",
    [{}, {"status": 500}, {"hang": "before_headers"}, {"hang_after_chunks": 2}, {"garbage": "body"}, {"reset": True}],
    ids=str,
)
async def test_a_shadow_never_touches_the_answer(serving: Serving, engine_of, redis_sync, behaviour: dict):
    shadow, watched = engine_of("candidate"), engine_of("watched")
    shadow.behaviour(**behaviour | ({"close_before_headers": True} if behaviour.get("reset") else {}))
    key = serving.gateway.new_key()
    async with serving.gateway.client(key.secret) as client:
        plain = await client.post(CHAT, json=chat_body(stream=True))
        began = time.monotonic()
        answers = [await client.post(CHAT, json=chat_body(model="watched", stream=True)) for _ in range(10)]
        took_s = time.monotonic() - began
    wait_until(lambda: len(shadow.requests()) == 10)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text.count("data: ") for answer in [plain, *answers]}) == 1
    assert took_s < 1
    assert [request["body"]["model"] for request in shadow.requests()] == ["candidate"] * 10
    assert len(watched.requests()) == 10
    remaining = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    assert remaining[0] - remaining[-1] <= 9  # only the client's own requests count


async def test_a_shadow_engine_that_dies_or_has_no_lease_changes_nothing(serving: Serving, engine_of):
    shadow = engine_of("candidate")
    engine_of("watched")
    shadow.stop()
    async with serving.gateway.client() as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat_body(f"{n}", model="watched")) for n in range(10)))

    assert {answer.status_code for answer in answers} == {200}
    assert all("x-flywheel-model" not in answer.headers for answer in answers)


async def test_copies_are_bounded(serving: Serving, engine_of):
    shadow = engine_of("candidate")
    engine_of("watched")
    dropped = 'flywheel_shadow_requests_total{model="candidate",result="dropped"}'
    before = metric(serving.gateway, dropped)
    shadow.behaviour(time_to_first_token_s=3)
    async with serving.gateway.client() as client:
        await asyncio.gather(*(client.post(CHAT, json=chat_body(f"{n}", model="watched")) for n in range(40)))

    assert len(shadow.requests()) <= 16
    assert metric(serving.gateway, dropped) - before >= 24
