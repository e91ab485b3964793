"""`python -m inference.agent MODEL`: starts vLLM for a model, and keeps it and its lease alive until told to stop."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

import httpx
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from contracts.settings import Settings
from inference.adapters import AdapterSet, Announce
from inference.catalogue import Catalogue, CatalogueError, CatalogueModel
from inference.command import EngineCommand, build_command, find_device
from inference.copies import LocalCopies
from inference.lease import RENEWALS_PER_TTL, LeaseHolder
from inference.load import read_load
from inference.process import EngineFailed, EngineProcess
from inference.pulse import Pulse
from inference.registered import fetch_weights, find_registered
from inference.weights import Weights, WeightsError, ensure_weights
from store.artifacts import ArtifactStore
from store.database import Database
from store.demand import DemandStore
from store.leases import LeaseStore
from store.models import ModelRepository
from store.news import follow_news, publish_news
from store.redis_clients import async_redis
from telemetry.logs import configure_logs

SERVICE = "flywheel-engine"
REQUEST_TIMEOUT_S = 4.0
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
DRAIN_POLL_S = 0.25
CANCEL_AGAIN_S = 0.5
CANNOT_START, INTERRUPTED = 1, 130


class RegistryUnusable(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The model could not be registered ({reason}). Check FLYWHEEL_DATABASE_URL, and that the database is "
            "migrated (python -m store.migrate)."
        )


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
        copies: LocalCopies,
        models: ModelRepository,
        redis: Redis,
        client: httpx.AsyncClient,
    ) -> None:
        self._model = model
        self._command = command
        self._settings = settings.engine
        self._adapters = adapters
        self._copies = copies
        self._models = models
        self._redis = redis
        self._client = client
        self._pulse = Pulse(client, interval_s=settings.engine.lease_ttl_s / RENEWALS_PER_TTL)
        self._lease = LeaseHolder(model, settings.engine, leases, self._pulse, adapters)
        self._adapters_changed = asyncio.Event()
        self._was_healthy = False
        self._log = structlog.get_logger(__name__).bind(engine=self._lease.engine)

    async def run(self, stop: asyncio.Event) -> None:
        """Starts vLLM again, with growing pauses, each time it fails; returns once `stop` is set and all is drained.

        Raises EngineFailed when vLLM fails before it was ever healthy: starting it again would not help.
        """
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            started_at = time.monotonic()
            try:
                await self._live_once(stop)
            except EngineFailed as error:
                if not self._was_healthy:
                    raise
                self._log.error("engine failed", reason=str(error))
            if time.monotonic() - started_at > LONGEST_BACKOFF_S:
                backoff_s = FIRST_BACKOFF_S
            if not stop.is_set():
                self._log.warning("starting the engine again", in_s=backoff_s)
                await _wait(stop, backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _live_once(self, stop: asyncio.Event) -> None:
        """One life of vLLM, from its start to its end. Raises EngineFailed unless it was told to stop."""
        self._adapters.forget()
        process = await EngineProcess.start(self._command)
        try:
            await _first_of(process.wait_until_healthy(self._client, timeout_s=self._start_timeout_s), stop.wait())
            if not stop.is_set():
                self._was_healthy = True
                self._log.info("engine is healthy", model=self._model.name, pid=process.pid)
                await self._serve(process, stop)
        finally:
            await self._lease.end()
            await process.stop()

    async def _serve(self, process: EngineProcess, stop: asyncio.Event) -> None:
        await _first_of(self._reconcile_adapters(announce=_tell_nobody), process.watch(), stop.wait())
        alive = (process.watch, self._pulse.follow, self._lease.hold)
        registry = (self._follow_registry(stop), self._listen_for_news())
        await _first_of(*(work() for work in alive), *registry, stop.wait())
        await self._lease.drain()
        self._log.info("draining", model=self._model.name)
        await _first_of(*(work() for work in alive), self._wait_until_idle())

    @property
    def _start_timeout_s(self) -> float:
        return self._settings.start_timeout_s

    async def _follow_registry(self, stop: asyncio.Event) -> None:
        pause_s: float | None = None
        while True:
            await self._remove_copies()
            poll_s = self._settings.adapter_poll_s
            await _wait(self._adapters_changed, poll_s if pause_s is None else min(pause_s, poll_s))
            self._adapters_changed.clear()  # before the look: what changes during it is looked at again
            if await self._is_withdrawn():
                await self._remove_copies()
                stop.set()
            pause_s = await self._reconcile_adapters(announce=lambda: self._lease.renew(announce=True))

    async def _remove_copies(self) -> None:
        """Of deleted models. vLLM has in memory what it serves."""
        with suppress(SQLAlchemyError):
            await asyncio.to_thread(self._copies.tidy)

    async def _is_withdrawn(self) -> bool:
        """Whether the model was deleted: a job had made it, and its owner wants it no longer."""
        try:
            return await asyncio.to_thread(self._models.get, self._model.name) is None
        except SQLAlchemyError:
            return False

    async def _reconcile_adapters(self, announce: Announce) -> float | None:
        """The seconds after which there is more to do, if there will be."""
        if self._model.task != "generate":
            return None
        try:
            return await self._adapters.reconcile(announce)
        except SQLAlchemyError as error:
            self._log.warning("registry not read", reason=type(error).__name__)
            return None

    async def _listen_for_news(self) -> None:
        async for news in follow_news(self._redis):
            if news is None or news.kind in ("model", "demand"):
                self._adapters_changed.set()

    async def _wait_until_idle(self) -> None:
        """Returns when nothing runs or waits any more, after `drain_timeout_s` at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await asyncio.sleep(DRAIN_POLL_S)  # what gateways sent before they heard arrives
                while await self._is_busy():  # noqa: ASYNC110 (vLLM tells no news)
                    await asyncio.sleep(DRAIN_POLL_S)

    async def _is_busy(self) -> bool:
        try:
            load = await read_load(self._client)
        except httpx.HTTPError:
            return True
        return load.running + load.waiting > 0


async def _tell_nobody() -> None:
    """Before the first lease there is nothing to announce."""


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until the event or the timeout. `asyncio.wait_for` would swallow a cancellation that comes with the event."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


async def _first_of(*work: Coroutine[Any, Any, Any]) -> None:
    """Runs all until one ends, and cancels the others. Raises what the one raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Until each has ended: redis-py uses `asyncio.wait_for`, which in Python 3.11 loses a cancellation that comes
    in the same moment as the answer."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


def _card(model: CatalogueModel, weights: Weights) -> ModelCard:
    return ModelCard(
        name=model.name,
        kind="base",
        task=model.task,
        weights=str(weights.folder),
        digest=weights.digest,
        licence=model.licence,
        context_length=model.context_length,
        input_price=model.input_price,
        output_price=model.output_price,
        on_demand=model.on_demand,
        created_at=int(time.time()),
    )


def prepare(name: str, settings: Settings, models: ModelRepository) -> tuple[CatalogueModel, Weights]:
    """Makes sure of the weights of a model of the catalogue, which is registered, or of one that a job made.

    Raises CatalogueError, WeightsError, RegistryUnusable.
    """
    catalogue = Catalogue.load(settings.engine.catalogue)
    try:
        if any(model.name == name for model in catalogue.models):
            model = catalogue.require(name)
            weights = ensure_weights(model, settings.engine.weights_dir)
            models.put(_card(model, weights))
            return model, weights
        model, card = find_registered(name, catalogue, models)
    except SQLAlchemyError as error:
        raise RegistryUnusable(type(error).__name__) from error
    return model, fetch_weights(card, ArtifactStore(settings.artifacts_url), settings.engine.weights_dir)


async def run_agent(model: CatalogueModel, weights: Weights, settings: Settings, models: ModelRepository) -> None:
    """Wires an agent and runs it until SIGTERM or SIGINT, or until its model is deleted. Raises EngineFailed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        async_redis(settings.redis_url, socket_connect_timeout=2, health_check_interval=10) as redis,
        httpx.AsyncClient(
            base_url=f"http://{settings.engine.host}:{settings.engine.port}", timeout=REQUEST_TIMEOUT_S
        ) as client,
    ):
        with suppress(RedisError):
            await publish_news(redis, Invalidation(kind="model", id=model.name))
        copies = LocalCopies(settings.engine.weights_dir.expanduser(), models)
        adapters = AdapterSet(
            model.name,
            models,
            ArtifactStore(settings.artifacts_url),
            DemandStore(redis),
            copies,
            client,
            places=model.engine.max_cpu_loras,
            max_rank=model.engine.max_lora_rank,
            residence_s=settings.engine.adapter_residence_s,
        )
        command = build_command(model, weights.folder, settings, find_device())
        agent = Agent(
            model,
            command,
            settings,
            leases=LeaseStore(redis),
            adapters=adapters,
            copies=copies,
            models=models,
            redis=redis,
            client=client,
        )
        await agent.run(stop)


def main() -> int:
    """The exit code. Until the weights are there a signal ends it at once; from then on it drains."""
    parser = argparse.ArgumentParser(prog="python -m inference.agent", description=__doc__)
    parser.add_argument("model", help="a name of the catalogue, or of a whole model that a job made")
    name = parser.parse_args().model
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    try:
        models = ModelRepository(Database(settings.database_url))
        model, weights = prepare(name, settings, models)
        asyncio.run(run_agent(model, weights, settings, models))
    except (CatalogueError, WeightsError, RegistryUnusable, EngineFailed) as error:
        structlog.get_logger(__name__).error("engine cannot start", reason=str(error))
        return CANNOT_START
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
