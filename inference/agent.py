"""`python -m inference.agent MODEL`: starts vLLM for a model, and keeps it and its lease alive until told to stop."""

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import httpx
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from contracts.engine import EngineLease, EngineLoad
from contracts.identifiers import new_id
from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from contracts.settings import Settings
from inference.adapters import AdapterSet
from inference.catalogue import Catalogue, CatalogueError, CatalogueModel
from inference.command import EngineCommand, build_command, find_device
from inference.load import read_load
from inference.process import EngineProcess, EngineStartFailed
from inference.weights import Weights, WeightsError, ensure_weights
from store.artifacts import ArtifactStore
from store.database import Database
from store.leases import LeaseStore
from store.models import ModelRepository
from store.news import follow_news, publish_news
from telemetry.logs import configure_logs

REQUEST_TIMEOUT_S = 4.0
RENEWALS_PER_TTL = 3
UNHEALTHY_AFTER_S = 30.0
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
DRAIN_POLL_S = 0.25


class Agent:
    """Runs one engine. Whatever ends vLLM ends the lease first, so that no gateway sends what nobody answers."""

    def __init__(
        self,
        model: CatalogueModel,
        command: EngineCommand,
        settings: Settings,
        *,
        leases: LeaseStore,
        adapters: AdapterSet,
        redis: Redis,
        client: httpx.AsyncClient,
    ) -> None:
        self._model = model
        self._command = command
        self._settings = settings.engine
        self._leases = leases
        self._adapters = adapters
        self._redis = redis
        self._client = client
        self._engine = new_id("engine")
        self._load = EngineLoad()
        self._load_read_at = time.monotonic()
        self._draining = False
        self._adapters_changed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    async def run(self, stop: asyncio.Event) -> None:
        """Starts vLLM again, with growing pauses, each time it ends; returns once `stop` is set and all is drained."""
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            started_at = time.monotonic()
            try:
                await self._live_once(stop)
            except EngineStartFailed as error:
                self._log.error("engine failed", reason=str(error))
            if time.monotonic() - started_at > LONGEST_BACKOFF_S:
                backoff_s = FIRST_BACKOFF_S
            if not stop.is_set():
                self._log.warning("starting the engine again", in_s=backoff_s)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _live_once(self, stop: asyncio.Event) -> None:
        """One life of vLLM, from its start to its end."""
        self._adapters.forget()
        process = await EngineProcess.start(self._command)
        try:
            healthy = process.wait_until_healthy(self._client, timeout_s=self._settings.start_timeout_s)
            if not await _first_of(healthy, stop.wait()):
                await self._serve(process, stop)
        finally:
            await self._end_lease()
            await process.stop()

    async def _serve(self, process: EngineProcess, stop: asyncio.Event) -> None:
        await self._reconcile_adapters()
        self._load_read_at = time.monotonic()
        self._log.info("engine serves", engine=self._engine, model=self._model.name, pid=process.pid)
        await _first_of(
            process.wait(), self._hold_lease(), self._follow_registry(), self._listen_for_news(), stop.wait()
        )
        if stop.is_set():
            await self._drain()
        else:
            self._log.error("engine ended by itself", engine=self._engine)

    async def _hold_lease(self) -> None:
        """Renews the lease for as long as vLLM answers; returns when it has been silent for too long."""
        while time.monotonic() - self._load_read_at < UNHEALTHY_AFTER_S:
            await self._renew_lease()
            await asyncio.sleep(self._settings.lease_ttl_s / RENEWALS_PER_TTL)
        self._log.error("engine does not answer", engine=self._engine)

    async def _renew_lease(self, *, announce: bool = False) -> None:
        with suppress(httpx.HTTPError):
            self._load = await read_load(self._client)
            self._load_read_at = time.monotonic()
        lease = EngineLease(
            engine=self._engine,
            url=f"http://{self._settings.host}:{self._settings.port}",
            model=self._model.name,
            task=self._model.task,
            adapters=self._adapters.names,
            capacity=self._model.engine.max_num_seqs,
            context_length=self._model.context_length,
            draining=self._draining,
            load=self._load,
        )
        try:
            await self._leases.put(lease, ttl_s=self._settings.lease_ttl_s)
            if announce:
                await self._leases.announce(self._engine)
        except RedisError as error:
            self._log.warning("lease not renewed", reason=type(error).__name__)

    async def _end_lease(self) -> None:
        try:
            await self._leases.remove(self._engine)
        except RedisError as error:
            self._log.warning("lease left to expire", reason=type(error).__name__)

    async def _follow_registry(self) -> None:
        await self._renew_lease(announce=True)
        while True:
            self._adapters_changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._adapters_changed.wait(), self._settings.adapter_poll_s)
            await self._reconcile_adapters()

    async def _reconcile_adapters(self) -> None:
        if self._model.task != "generate":
            return
        try:
            changed = await self._adapters.reconcile()
        except SQLAlchemyError as error:
            self._log.warning("registry not read", reason=type(error).__name__)
            return
        if changed:
            await self._renew_lease(announce=True)

    async def _listen_for_news(self) -> None:
        async for news in follow_news(self._redis):
            if news is None or news.kind == "model":
                self._adapters_changed.set()

    async def _drain(self) -> None:
        """Takes nothing new and lets what runs come to its end, for `drain_timeout_s` at most."""
        self._log.info("draining", engine=self._engine)
        self._draining = True
        await self._renew_lease(announce=True)
        with suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await asyncio.sleep(DRAIN_POLL_S)
                while (load := await read_load(self._client)).running + load.waiting > 0:  # noqa: ASYNC110 (vLLM tells no news)
                    await asyncio.sleep(DRAIN_POLL_S)


async def _first_of(*work: Coroutine[Any, Any, Any]) -> int:
    """Runs all until one ends, cancels the others, and returns the position of the one. Raises what it raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task in done)
        first.result()
        return tasks.index(first)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _card(model: CatalogueModel, weights: Weights) -> ModelCard:
    return ModelCard(
        name=model.name,
        kind="base",
        task=model.task,
        weights=str(weights.folder),
        digest=weights.digest,
        licence=model.licence,
        context_length=model.context_length,
        on_demand=model.on_demand,
        created_at=int(time.time()),
    )


async def run_agent(name: str, settings: Settings) -> None:
    """Wires an agent and runs it until SIGTERM or SIGINT. Raises CatalogueError, WeightsError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    model = Catalogue.load(settings.engine.catalogue).require(name)
    weights = await asyncio.to_thread(ensure_weights, model, settings.engine.weights_dir)
    models = ModelRepository(Database(settings.database_url))
    await asyncio.to_thread(models.put, _card(model, weights))
    async with (
        Redis.from_url(settings.redis_url, socket_connect_timeout=2, health_check_interval=10) as redis,
        httpx.AsyncClient(
            base_url=f"http://{settings.engine.host}:{settings.engine.port}", timeout=REQUEST_TIMEOUT_S
        ) as client,
    ):
        with suppress(RedisError):
            await publish_news(redis, Invalidation(kind="model", id=model.name))
        adapters = AdapterSet(
            model.name,
            models,
            ArtifactStore(settings.artifacts_url),
            settings.engine.weights_dir.expanduser() / "adapters",
            client,
        )
        command = build_command(model, weights.folder, settings, find_device())
        agent = Agent(model, command, settings, leases=LeaseStore(redis), adapters=adapters, redis=redis, client=client)
        await agent.run(stop)


def main() -> None:
    settings = Settings()
    configure_logs("flywheel-engine", settings.telemetry.log_level)
    log = structlog.get_logger(__name__)
    try:
        asyncio.run(run_agent(sys.argv[1], settings))
    except (CatalogueError, WeightsError) as error:
        log.error("engine cannot start", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
