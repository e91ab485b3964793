"""The life of a local stack, from its database to its last service."""

import asyncio
import os
import time
from contextlib import AsyncExitStack

import httpx
import structlog
from alembic.util import CommandError
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError

from cli.home import Home
from cli.local_stack import LocalStack
from cli.supervisor.local_engines import LocalEngines
from cli.supervisor.on_demand import OnDemandEngines
from cli.supervisor.ports import HOST, Ports, free_ports
from cli.supervisor.preparation import prepare_database
from cli.supervisor.service import Service, ServiceFailed
from cli.supervisor.services import ServiceCatalogue
from cli.supervisor.state import Failure, StateFile
from cli.supervisor.supervisor import Supervisor
from contracts.settings import Settings
from inference.catalogue import Catalogue, CatalogueError
from store.database import Database
from store.models import ModelRepository
from store.redis_clients import async_redis

TEXT_MODEL, EMBEDDING_MODEL = "smollm2-135m-instruct", "all-minilm-l6-v2"
DATABASE_STEP = "database"
SHARED_SETTINGS = (
    "FLYWHEEL_REDIS_URL",
    "FLYWHEEL_JOBS_REDIS_URL",
    "FLYWHEEL_DATABASE_URL",
    "FLYWHEEL_ARTIFACTS_URL",
    "FLYWHEEL_GATEWAY__PORT",
)


class Stack:
    def __init__(
        self,
        home: Home,
        ports: Ports,
        settings: Settings,
        states: StateFile,
        services: ServiceCatalogue,
        redis: Redis,
    ) -> None:
        self._home = home
        self._ports = ports
        self._settings = settings
        self._states = states
        self._services = services
        self._redis = redis
        self._supervisor = Supervisor(states)
        self._catalogue = Catalogue(models=())
        self._log = structlog.get_logger(__name__)

    @classmethod
    async def create(
        cls, home: Home, ports: Ports, settings: Settings, states: StateFile, resources: AsyncExitStack
    ) -> "Stack":
        redis = await resources.enter_async_context(
            async_redis(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
        )
        broker = await resources.enter_async_context(
            async_redis(settings.broker_url, socket_timeout=2, socket_connect_timeout=2)
        )
        client = await resources.enter_async_context(httpx.AsyncClient(trust_env=False))
        services = ServiceCatalogue(home, ports, settings, dict(os.environ), redis, broker, client)
        return cls(home, ports, settings, states, services, redis)

    async def run(self, stop: asyncio.Event, *, own_valkey: bool, embeddings: bool) -> int:
        """Brings everything up, keeps it up until `stop`, takes it down. The exit code says whether it came up."""
        up = asyncio.create_task(self._bring_up(own_valkey=own_valkey, embeddings=embeddings))
        stopped = asyncio.create_task(stop.wait())
        failure: Failure | None = None
        try:
            await asyncio.wait({up, stopped}, return_when=asyncio.FIRST_COMPLETED)
            failure = up.result() if up.done() else None
            if failure is None and not stop.is_set():
                self._states.set_phase("ready")
                await self._serve_until(stopped)
        finally:
            up.cancel()
            stopped.cancel()
            await asyncio.gather(up, stopped, return_exceptions=True)
            self._states.set_phase("stopping", failure)
            await self._supervisor.stop()
        self._home.local_file.unlink(missing_ok=True)
        self._states.set_phase("stopped" if failure is None else "failed")
        return 0 if failure is None else 1

    async def _bring_up(self, *, own_valkey: bool, embeddings: bool) -> Failure | None:
        """Valkey and the database first, beside each other; then everything else."""
        engines = [self._services.engine(TEXT_MODEL, self._ports.engine)]
        if embeddings:
            engines.append(self._services.engine(EMBEDDING_MODEL, free_ports(1)[0]))
        later = [self._services.gateway(), self._services.worker(), self._services.releases(), *engines]
        first = [self._services.valkey()] if own_valkey else []
        self._supervisor.announce(*[service.name for service in first], DATABASE_STEP, *[s.name for s in later])
        valkey = asyncio.create_task(self._supervisor.start(*first))
        try:
            api_key = await self._prepare_database()
            await valkey
            await self._supervisor.start(*later)
        except ServiceFailed as error:
            self._supervisor.report(error.failure)
            return error.failure
        finally:
            valkey.cancel()
            await asyncio.gather(valkey, return_exceptions=True)
        self._write_local_file(api_key, later)
        return None

    async def _prepare_database(self) -> str:
        started_at = time.monotonic()
        self._states.set(DATABASE_STEP, status="starting", since=time.time())
        database = self._open_database()
        pepper = self._settings.auth.pepper.get_secret_value()
        try:
            self._catalogue = Catalogue.load(self._settings.engine.catalogue)
            api_key = await asyncio.to_thread(prepare_database, database, pepper, self._catalogue)
        except CatalogueError as error:
            advice = "Correct the file, or unset FLYWHEEL_ENGINE__CATALOGUE to take the built-in one."
            raise ServiceFailed(Failure(step=DATABASE_STEP, why=str(error), advice=advice)) from None
        except (SQLAlchemyError, CommandError, ValueError) as error:
            advice = (
                f"If {self._home.folder / 'flywheel.db'} was made by a newer version or is damaged, move it away:"
                " `make up` makes a new one. FLYWHEEL_DATABASE_URL names another."
            )
            why = str(error).splitlines()[0]
            raise ServiceFailed(Failure(step=DATABASE_STEP, why=why, advice=advice)) from None
        finally:
            database.dispose()
        self._states.set(DATABASE_STEP, status="ready", seconds=time.monotonic() - started_at)
        return api_key

    def _open_database(self) -> Database:
        try:
            return Database(self._settings.database_url)
        except (SQLAlchemyError, OSError) as error:
            advice = (
                "FLYWHEEL_DATABASE_URL names it: sqlite:///… in a folder that can be written, or postgresql+psycopg://…"
            )
            raise ServiceFailed(Failure(step=DATABASE_STEP, why=str(error), advice=advice)) from None

    async def _serve_until(self, stopped: "asyncio.Task[bool]") -> None:
        database = self._open_database()
        engines = LocalEngines(self._supervisor, self._services, self._catalogue, ModelRepository(database))
        work = asyncio.create_task(OnDemandEngines(self._redis, engines, self._settings.on_demand).run())
        try:
            await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            database.dispose()

    def _write_local_file(self, api_key: str, services: list[Service]) -> None:
        steps = self._states.state.steps
        LocalStack(
            base_url=f"http://{HOST}:{self._ports.gateway}/v1",
            api_key=api_key,
            pids={"supervisor": os.getpid(), **{name: step.pid for name, step in steps.items() if step.pid}},
            ports={
                "gateway": self._ports.gateway,
                "engine": self._ports.engine,
                **({"valkey": self._ports.valkey} if "valkey" in steps else {}),
            },
            logs={"supervisor": str(self._home.log("supervisor"))}
            | {step: str(self._home.log(step)) for step in ("valkey", "gateway", "worker", "releases") if step in steps}
            | {service.name: str(service.log) for service in services},
            settings={name: os.environ[name] for name in SHARED_SETTINGS if name in os.environ},
        ).write(self._home)
