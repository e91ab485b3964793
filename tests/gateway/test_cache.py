"""Repeats are answered from Redis, for the same tenant and the same weights only."""

import asyncio

import httpx
import pytest

from tests.conftest import LeaseGiver
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess


async def repeat(client, body: dict, headers: dict | None = None):
    """Asks twice, leaving time for the first answer to be kept."""
    first = await client.post(CHAT, json=body, headers=headers)
    await asyncio.sleep(0.1)
    return first, await client.post(CHAT, json=body, headers=headers)


async def test_a_repeat_at_temperature_0_is_a_hit_with_the_same_bytes(serving: Serving):
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0))

    assert (first.headers["x-flywheel-cache"], second.headers["x-flywheel-cache"]) == ("miss", "hit")
    assert first.content == second.content
    assert len(serving.engine.requests()) == 1


async def test_a_stream_is_replayed_as_a_stream(serving: Serving):
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0, stream=True))

    assert second.headers["x-flywheel-cache"] == "hit"
    assert second.headers["content-type"].startswith("text/event-stream")
    assert first.content == second.content
    assert second.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("fields", "headers", "results"),
    [
        ({}, {}, ["bypass", "bypass"]),
        ({"temperature": 0.7}, {}, ["bypass", "bypass"]),
        ({"temperature": 0.7, "seed": 7}, {}, ["miss", "hit"]),
        ({"temperature": 0.7}, {"x-flywheel-cache": "use"}, ["miss", "hit"]),
        ({"temperature": 0}, {"cache-control": "no-store"}, ["bypass", "bypass"]),
        ({"temperature": 0}, {"cache-control": "no-cache"}, ["bypass", "bypass"]),
    ],
)
async def test_only_what_would_repeat_is_kept(serving: Serving, fields: dict, headers: dict, results: list[str]):
    async with serving.gateway.client() as client:
        answers = await repeat(client, chat_body(**fields), headers)

    assert [answer.headers["x-flywheel-cache"] for answer in answers] == results


async def test_no_cache_asks_anew_and_keeps_the_new_answer(serving: Serving):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0), {"cache-control": "no-cache"})
        answer = await client.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "hit"


async def test_nothing_crosses_tenants(serving: Serving):
    async with serving.gateway.client() as one, serving.gateway.client() as other:
        await repeat(one, chat_body(temperature=0))
        answer = await other.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "miss"


async def test_new_weights_make_old_answers_unreachable(serving: Serving, redis_sync):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0))
        serving.register(redis_sync, model_card(digest="sha256:retrained"))
        await asyncio.sleep(0.3)
        answer = await client.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "miss"


async def test_a_stream_that_breaks_off_is_not_kept(serving: Serving):
    serving.engine.behaviour(close_after_chunks=3, for_requests=1)
    async with serving.gateway.client() as client:
        _, second = await repeat(client, chat_body(temperature=0, stream=True))

    assert second.headers["x-flywheel-cache"] == "miss"
    assert "error" not in second.text


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__MAX_ENTRY_BYTES": "100"}], indirect=True)
async def test_an_answer_beyond_the_bound_is_not_kept(serving: Serving):
    async with serving.gateway.client() as client:
        _, second = await repeat(client, chat_body(temperature=0))

    assert second.headers["x-flywheel-cache"] == "miss"


async def test_an_error_is_not_kept(serving: Serving):
    serving.engine.behaviour(status=500, for_requests=1)
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0))

    assert (first.status_code, second.status_code) == (502, 200)
    assert second.headers["x-flywheel-cache"] == "miss"


async def test_a_hit_tells_its_age_and_max_age_refuses_older_answers(serving: Serving):
    async with serving.gateway.client() as client:
        first = await client.post(CHAT, json=chat_body(temperature=0))
        await asyncio.sleep(2.1)
        young, old = {"cache-control": "max-age=60"}, {"cache-control": "max-age=1"}
        accepted = await client.post(CHAT, json=chat_body(temperature=0), headers=young)
        refused = await client.post(CHAT, json=chat_body(temperature=0), headers=old)
        await asyncio.sleep(0.1)
        anew = await client.post(CHAT, json=chat_body(temperature=0), headers=old)

    assert "age" not in first.headers
    assert [answer.headers["x-flywheel-cache"] for answer in (accepted, refused, anew)] == ["hit", "miss", "hit"]
    assert int(accepted.headers["age"]) in (2, 3)
    assert anew.headers["age"] == "0"


async def test_what_is_kept_of_a_long_stream_is_a_fraction_of_it(serving: Serving, redis_sync):
    serving.engine.behaviour(tokens=200)
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0, stream=True, max_tokens=200))

    (name,) = redis_sync.keys("*:cache:*")
    assert first.content == second.content
    assert redis_sync.strlen(name) < len(first.content) / 10


async def test_an_answer_is_kept_for_an_hour(serving: Serving, redis_sync):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0))

    (name,) = redis_sync.keys("*:cache:*")
    assert 3590 < redis_sync.ttl(name) <= 3600


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__LOCAL_BYTES": "0"}], indirect=True)
async def test_without_a_memory_of_its_own_a_gateway_answers_from_redis(serving: Serving):
    async with serving.gateway.client() as client:
        first, second = await repeat(client, chat_body(temperature=0, stream=True))

    assert second.headers["x-flywheel-cache"] == "hit"
    assert first.content == second.content


async def test_a_gateway_remembers_what_redis_has_lost(serving: Serving, redis_sync):
    async with serving.gateway.client() as client:
        await repeat(client, chat_body(temperature=0))
        redis_sync.delete(*redis_sync.keys("*:cache:*"))
        answer = await client.post(CHAT, json=chat_body(temperature=0))

    assert answer.headers["x-flywheel-cache"] == "hit"


async def test_hits_from_memory_count_as_requests(serving: Serving):
    key = serving.gateway.new_key(requests_per_minute=3)
    async with serving.gateway.client(key.secret) as client:
        answers = [*await repeat(client, chat_body(temperature=0))]
        answers += [await client.post(CHAT, json=chat_body(temperature=0)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers[1:3]]
    assert left[0] == left[1]


@pytest.mark.parametrize(
    "gateway",
    [{"FLYWHEEL_CACHE__MAX_TENANT_BYTES": "9000", "FLYWHEEL_CACHE__LOCAL_BYTES": "0"}],
    indirect=True,
)
async def test_a_tenant_holds_no_more_than_its_bytes_and_loses_what_it_used_longest_ago(serving: Serving, redis_sync):
    async def ask(number: int) -> str:
        answer = await client.post(CHAT, json=chat_body(f"Question {number}", temperature=0))
        await asyncio.sleep(0.02)
        return answer.headers["x-flywheel-cache"]

    async with serving.gateway.client() as client, serving.gateway.client() as other:
        await other.post(CHAT, json=chat_body("Of another tenant", temperature=0))
        assert [await ask(number) for number in range(8)] == ["miss"] * 8
        assert await ask(0) == "hit"
        wait_until(lambda: _newest_use(redis_sync) == _first_kept(redis_sync), timeout_s=8)
        assert [await ask(number) for number in range(8, 24)] == ["miss"] * 16

        held = sum(redis_sync.strlen(name) for name in redis_sync.keys("*:cache:*"))
        assert 6000 < held < 9000 + 1000  # the other tenant's one answer
        assert [await ask(number) for number in (0, 1, 23)] == ["miss", "miss", "hit"]
        untouched = await other.post(CHAT, json=chat_body("Of another tenant", temperature=0))

    assert untouched.headers["x-flywheel-cache"] == "hit"


async def test_clearing_forgets_a_models_answers_on_every_gateway(
    serving: Serving, second: GatewayProcess, lease: LeaseGiver, redis_sync
):
    adapter = {"lora_name": "other-model", "lora_path": "/nowhere"}
    assert httpx.post(f"{serving.engine.url}/v1/load_lora_adapter", json=adapter).status_code == 200
    serving.register(redis_sync, model_card("other-model"))
    lease(serving.engine, adapters=("other-model",))
    wait_until(lambda: Serving(second, serving.engine).models().get("other-model") == "live")
    key = serving.gateway.new_key()
    mine, others = chat_body(temperature=0), chat_body(temperature=0) | {"model": "other-model"}
    async with serving.gateway.client(key.secret) as client, second.client(key.secret) as elsewhere:
        for body in (mine, others):
            assert (await repeat(client, body))[0].status_code == 200
            assert (await elsewhere.post(CHAT, json=body)).headers["x-flywheel-cache"] == "hit"
        cleared = await client.delete("/v1/flywheel/cache", params={"model": MODEL})
        await asyncio.sleep(0.1)
        after = await elsewhere.post(CHAT, json=mine)
        kept = await elsewhere.post(CHAT, json=others)
        rest = await client.delete("/v1/flywheel/cache")

    assert cleared.json() == {"object": "cache", "tenant": key.key.tenant, "model": MODEL, "deleted": 1}
    assert (after.headers["x-flywheel-cache"], kept.headers["x-flywheel-cache"]) == ("miss", "hit")
    assert rest.json()["deleted"] == 2
    assert redis_sync.keys("*:cache:*") == []


async def test_clearing_is_for_admins_and_their_own_tenant(serving: Serving):
    async with serving.gateway.client() as client, serving.gateway.client() as stranger:
        await repeat(client, chat_body(temperature=0))
        cleared = await stranger.delete("/v1/flywheel/cache")
        after = await client.post(CHAT, json=chat_body(temperature=0))
    async with serving.gateway.client(serving.gateway.new_key(scopes=["inference", "jobs"]).secret) as nobody:
        refused = await nobody.delete("/v1/flywheel/cache")

    assert cleared.json()["deleted"] == 0
    assert after.headers["x-flywheel-cache"] == "hit"
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")


async def test_an_answer_begun_before_a_clearing_is_not_kept_after_it(serving: Serving):
    serving.engine.behaviour(time_to_first_token_s=0.5)
    async with serving.gateway.client() as client:
        for headers in ({}, {"cache-control": "no-cache"}):
            asking = asyncio.create_task(client.post(CHAT, json=chat_body(temperature=0), headers=headers))
            await asyncio.sleep(0.2)
            await client.delete("/v1/flywheel/cache")
            assert (await asking).status_code == 200
            await asyncio.sleep(0.1)
            assert (await client.delete("/v1/flywheel/cache")).json()["deleted"] == 0


def _newest_use(redis) -> bytes:
    return max(_uses(redis), key=lambda use: use[1])[0]


def _first_kept(redis) -> bytes:
    """Of the answers that the test kept in turn, by how long each has left to live."""
    names = [name for name in redis.keys("*:cache:*") if name.rsplit(b":")[-1] in dict(_uses(redis))]
    return min(names, key=redis.pttl).rsplit(b":")[-1]


def _uses(redis) -> list[tuple[bytes, float]]:
    return max((redis.zrange(name, 0, -1, withscores=True) for name in redis.keys("*:cache-uses")), key=len)
