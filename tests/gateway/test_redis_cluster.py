"""A Redis cluster of six nodes: the data path's client of it, and whole gateways over it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from cli.key_store import publish
from contracts.invalidation import Invalidation
from contracts.settings import Settings
from gateway.redis_cluster import ClusterPipe
from store import redis_names
from store.database import Database
from store.erasure.answers import forget_tenant
from store.leases import LeaseStore
from store.models import ModelRepository
from store.news import follow_news, publish_news
from store.redis_clients import async_redis, blocking_redis
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess
from tests.inference.agent_process import MODEL as TINY_MODEL
from tests.inference.agent_process import AgentProcess
from tests.processes import free_port
from tests.store.test_leases import a_lease
from tests.valkey_cluster import ValkeyCluster, ValkeyNode

NAMES = [f"name-{number}" for number in range(200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    cluster = ValkeyCluster(tmp_path_factory.mktemp("valkey-cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def redis_url(cluster: ValkeyCluster) -> str:
    return cluster.url


@pytest.fixture
async def pipe(cluster: ValkeyCluster) -> AsyncIterator[ClusterPipe]:
    pipe = ClusterPipe(cluster.url, timeout_s=2)
    yield pipe
    await pipe.close()


# -- the data path's client


async def test_replies_come_to_the_callers_that_asked_whichever_server_has_the_name(pipe: ClusterPipe) -> None:
    async def ask(name: str) -> bytes:
        await pipe.call("SET", name, name)
        return await pipe.call("GET", name)

    answers = await asyncio.gather(*map(ask, NAMES))
    assert answers == [name.encode() for name in NAMES]


async def test_an_error_reaches_its_caller_only(pipe: ClusterPipe) -> None:
    calls = [pipe.call("SET", "text", "word"), pipe.call("INCR", "text"), pipe.call("GET", "text")]
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert (replies[0], replies[2]) == (b"OK", b"word")
    assert isinstance(replies[1], ResponseError)


async def test_a_script_is_sent_to_each_server_that_does_not_know_it(pipe: ClusterPipe, cluster: ValkeyCluster) -> None:
    script = pipe.script("return {KEYS[1], ARGV[1]}")
    for _ in range(2):
        answers = await asyncio.gather(*(script([name], [1]) for name in NAMES))
        assert answers == [[name.encode(), b"1"] for name in NAMES]
        for node in cluster.primaries():
            node.command("SCRIPT FLUSH")


async def test_there_is_a_tag_for_each_primary(pipe: ClusterPipe, cluster: ValkeyCluster) -> None:
    await pipe.call("GET", "any")
    primaries = [cluster.primary(f"{{{tag}}}").port for tag in pipe.tags]
    assert sorted(primaries) == sorted(node.port for node in cluster.primaries())


async def test_a_slot_that_moves_is_followed(pipe: ClusterPipe, cluster: ValkeyCluster) -> None:
    """While it moves, some of its names are still here and others there already; then all are there."""
    name, other = "{moves}:1", "{moves}:2"
    for each in (name, other):
        await pipe.call("SET", each, each)
    slot, source = key_slot(name.encode()), cluster.primary(name)
    target = next(node for node in cluster.primaries() if node is not source)
    target.command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
    source.command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
    source.command("MIGRATE", "127.0.0.1", target.port, name, 0, 1000)

    assert await asyncio.gather(pipe.call("GET", name), pipe.call("GET", other)) == [name.encode(), other.encode()]
    both = asyncio.ensure_future(pipe.script("return redis.call('MGET', KEYS[1], KEYS[2])")([name, other], []))
    await asyncio.sleep(0.02)
    source.command("MIGRATE", "127.0.0.1", target.port, other, 0, 1000)
    for node in (target, source):
        node.command("CLUSTER SETSLOT", slot, "NODE", target.id)

    assert await both == [name.encode(), other.encode()]
    redirected = _redirections(source)
    for _ in range(10):
        assert await pipe.call("GET", name) == name.encode()
    assert _redirections(source) <= redirected + 1


def _redirections(node: ValkeyNode) -> int:
    return node.redis.info("errorstats").get("errorstat_MOVED", {"count": 0})["count"]


async def test_without_a_server_calls_fail_soon() -> None:
    pipe = ClusterPipe(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}", timeout_s=2)
    async with asyncio.timeout(2):
        for _ in range(100):
            with pytest.raises(RedisConnectionError):
                await pipe.call("GET", "name")
    await pipe.close()


# -- everything else's client


async def test_leases_in_many_slots_are_all_seen_and_the_dead_are_cleared(cluster: ValkeyCluster) -> None:
    async with async_redis(cluster.url) as redis:
        leases = LeaseStore(redis)
        given = [a_lease(f"engine-{number:02}") for number in range(20)]
        for lease in given:
            await leases.put(lease, ttl_s=600)
        await leases.put(a_lease("engine-dead"), ttl_s=0.05)
        await asyncio.sleep(0.1)
        assert await leases.alive() == given
        assert "engine-dead" not in await leases.names()
        for lease in given:
            await leases.remove(lease.engine)


async def test_news_reach_who_listens_at_any_server(cluster: ValkeyCluster) -> None:
    async with async_redis(cluster.url) as teller:
        for _ in range(3):
            async with async_redis(cluster.url) as listener, asyncio.timeout(10):
                heard = follow_news(listener)
                assert await anext(heard) is None
                news = Invalidation(kind="model", id="m")
                await publish_news(teller, news)
                while await anext(heard) != news:  # what was told before may still be on its way through the cluster
                    pass
                await heard.aclose()


def test_a_tenants_names_are_erased_on_whichever_server_they_are(cluster: ValkeyCluster) -> None:
    with blocking_redis(cluster.url) as redis:
        tenants = [f"tenant-{number}" for number in range(6)]
        for tenant in tenants:
            redis.set(redis_names.cached_answer(tenant, "digest"), b"kept")
        assert {forget_tenant(redis, tenant) for tenant in tenants} == {1}


async def test_a_cluster_that_is_away_is_a_redis_error() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    with pytest.raises(RedisError):
        blocking_redis(url)
    async with async_redis(url) as redis:
        with pytest.raises(RedisError):
            await LeaseStore(redis).alive()
        with pytest.raises(RedisError):
            await redis.ping()


# -- gateways


class Gateways:
    """Two, over the same keys and models."""

    def __init__(self, cluster: ValkeyCluster, folder: Path, broker_url: str) -> None:
        self.cluster = cluster
        settings = {
            "FLYWHEEL_JOBS_REDIS_URL": broker_url,
            "FLYWHEEL_CACHE__LOCAL_BYTES": "0",
            "FLYWHEEL_DATABASE_URL": f"sqlite:///{folder}/flywheel.db",
        }
        database = Database(settings["FLYWHEEL_DATABASE_URL"])
        database.migrate()
        ModelRepository(database).put(model_card())
        database.dispose()

        def start(name: str) -> GatewayProcess:
            return GatewayProcess(redis_url=cluster.url, folder=folder / name, settings=settings)

        self.first, self.second = self.both = (start("first"), start("second"))

    def secrets_on_each_primary(self, **limits: object) -> list[str]:
        """A key for each primary, of a tenant whose names lie there."""
        found: dict[ValkeyNode, str] = {}
        while len(found) < len(self.cluster.primaries()):
            tenant = f"tenant-{random.randrange(10**9)}"
            if (primary := self.cluster.primary(redis_names.buckets(tenant))) not in found:
                found[primary] = self.first.new_key(tenant=tenant, **limits).secret
        return [*found.values()]

    @property
    def settings(self) -> Settings:
        return Settings(redis_url=self.cluster.url, jobs_redis_url=self.first.settings["FLYWHEEL_JOBS_REDIS_URL"])

    def stop(self) -> None:
        for gateway in self.both:
            gateway.stop()


@pytest.fixture(scope="module")
def _gateways_of_cluster(
    cluster: ValkeyCluster, valkey: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateways]:
    gateways = Gateways(cluster, tmp_path_factory.mktemp("gateways"), valkey)
    yield gateways
    gateways.stop()


@pytest.fixture
def gateways(_gateways_of_cluster: Gateways, fake_engine: FakeEngineProcess, lease: LeaseGiver) -> Iterator[Gateways]:
    given = lease(fake_engine)
    wait_until(lambda: all(_states(gateway).get(MODEL) == "live" for gateway in _gateways_of_cluster.both))
    yield _gateways_of_cluster
    lease.end(given)


def _states(gateway: GatewayProcess) -> dict[str, str]:
    return {model["id"]: model["state"] for model in _get(gateway, "/v1/models").json()["data"]}


def _get(gateway: GatewayProcess, path: str) -> httpx.Response:
    return httpx.get(gateway.url + path, headers={"authorization": f"Bearer {gateway.new_key().secret}"}, timeout=15)


def _ask(gateway: GatewayProcess, secret: str, **fields: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.post(gateway.url + CHAT, json=chat_body(**fields), headers=headers, timeout=15)


def _counts_alone(gateway: GatewayProcess) -> bool:
    return "flywheel_limits_local 1.0" in httpx.get(f"{gateway.url}/metrics", timeout=5).text


def test_a_limit_holds_exactly_over_both_gateways_on_every_primary(gateways: Gateways) -> None:
    for secret in gateways.secrets_on_each_primary(requests_per_minute=4):
        answers = [_ask(gateway, secret) for _ in range(4) for gateway in gateways.both]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 4
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:4]] == ["3", "2", "1", "0"]


def test_an_answer_is_kept_for_the_other_gateway(gateways: Gateways) -> None:
    for secret in gateways.secrets_on_each_primary():
        first = _ask(gateways.first, secret, prompt="Keep this", temperature=0)
        second = _ask(gateways.second, secret, prompt="Keep this", temperature=0)
        assert [answer.headers["x-flywheel-cache"] for answer in (first, second)] == ["miss", "hit"]
        assert first.json()["choices"] == second.json()["choices"]


async def test_the_same_question_at_both_gateways_is_generated_once(
    gateways: Gateways, fake_engine: FakeEngineProcess
) -> None:
    fake_engine.behaviour(time_to_first_token_s=0.5)
    for secret in gateways.secrets_on_each_primary():
        body = chat_body("Once", temperature=0)
        async with gateways.first.client(secret) as first, gateways.second.client(secret) as second:
            answers = await asyncio.gather(*(client.post(CHAT, json=body) for client in (first, second)))
        assert [answer.status_code for answer in answers] == [200, 200]
    assert len(fake_engine.requests()) == 3


def test_a_revoked_key_is_refused_by_both(gateways: Gateways) -> None:
    key = gateways.first.new_key()
    assert [_ask(gateway, key.secret).status_code for gateway in gateways.both] == [200, 200]
    gateways.first.keys.revoke(key.key.id)
    assert publish(gateways.settings, Invalidation(kind="key", id=key.key.id))
    wait_until(lambda: [_ask(gateway, key.secret).status_code for gateway in gateways.both] == [401, 401])


def test_an_engine_that_goes_is_noticed(gateways: Gateways, fake_engine: FakeEngineProcess, lease: LeaseGiver) -> None:
    second = lease(fake_engine, model="another")
    wait_until(lambda: all(len(_engines(gateway)) == 2 for gateway in gateways.both))
    lease.end(second)
    wait_until(lambda: all(len(_engines(gateway)) == 1 for gateway in gateways.both))


def test_a_real_agents_engine_serves_until_it_is_stopped(gateways: Gateways, tmp_path: Path) -> None:
    settings = gateways.first.settings
    agent = AgentProcess(
        tmp_path,
        redis_url=gateways.cluster.url,
        database_url=settings["FLYWHEEL_DATABASE_URL"],
        artifacts_url=settings["FLYWHEEL_ARTIFACTS_URL"],
        FLYWHEEL_JOBS_REDIS_URL=settings["FLYWHEEL_JOBS_REDIS_URL"],
    )
    try:
        agent.wait_for(lambda: all(_states(gateway).get(TINY_MODEL) == "live" for gateway in gateways.both))
        secret = gateways.first.new_key().secret
        assert {_ask(gateway, secret, model=TINY_MODEL).status_code for gateway in gateways.both} == {200}
    finally:
        agent.process.stop()
    wait_until(lambda: all(_states(gateway).get(TINY_MODEL) != "live" for gateway in gateways.both))


def _engines(gateway: GatewayProcess) -> list[object]:
    engines: list[object] = _get(gateway, "/v1/flywheel/engines").json()["data"]
    return engines


def test_a_primary_dies_and_requests_go_on(
    gateways: Gateways, fake_engine: FakeEngineProcess, lease: LeaseGiver
) -> None:
    """The last test here: the cluster has one node less after it. Its replica has what the primary had counted."""
    secrets = gateways.secrets_on_each_primary(requests_per_minute=500)
    counted = gateways.secrets_on_each_primary(requests_per_minute=4)
    assert {_ask(gateways.first, secret).status_code for secret in (*secrets, *counted) for _ in range(2)} == {200}
    victim = gateways.cluster.primaries()[0]
    victim.redis.execute_command("WAIT", 1, 1000)
    victim.process.kill()

    alone: set[GatewayProcess] = set()

    def replaced() -> bool:
        answers = [_ask(gateway, secret) for secret in secrets for gateway in gateways.both]
        assert {answer.status_code for answer in answers} == {200}
        counting = {gateway for gateway in gateways.both if _counts_alone(gateway)}
        alone.update(counting)
        return victim not in gateways.cluster.primaries() and not counting

    wait_until(replaced, timeout_s=30)
    assert alone == set(gateways.both)
    for secret in counted:
        answers = [_ask(gateway, secret).status_code for gateway in gateways.both for _ in range(2)]
        assert answers == [200, 200, 429, 429]
    test_a_limit_holds_exactly_over_both_gateways_on_every_primary(gateways)
    test_an_answer_is_kept_for_the_other_gateway(gateways)
    test_a_revoked_key_is_refused_by_both(gateways)
    test_an_engine_that_goes_is_noticed(gateways, fake_engine, lease)
