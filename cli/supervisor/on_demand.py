"""Starts engines that requests wait for, and ends those that nobody uses."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psutil
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from contracts.settings import OnDemandSettings
from store import redis_names
from store.demand import DemandStore
from store.leases import LeaseStore

POLL_S = 0.5
SWEEP_S = 2.0
JUST_USED_S = 5.0
"""An engine that was used so recently is in use: gateways tell of uses once a second."""
GIB = 1 << 30


class Engines(Protocol):
    """The engines of this machine that start on demand."""

    async def is_servable(self, model: str) -> bool:
        """Whether there is such a model. Raises SQLAlchemyError."""
        ...

    def is_running(self, model: str) -> bool: ...

    def start(self, model: str) -> None: ...

    async def stop(self, model: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Use:
    """How an engine that this has started is used."""

    last_at: float
    busy: bool


class OnDemandEngines:
    """At most `max_engines` at a time. Who must make room, or rest, is the one used longest ago that has nothing to do.

    A request that cannot be met now is asked again by its gateway every second for as long as it waits.
    """

    def __init__(
        self,
        redis: Redis,
        engines: Engines,
        settings: OnDemandSettings,
        *,
        free_memory_bytes: Callable[[], int] = lambda: psutil.virtual_memory().available,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._leases = LeaseStore(redis)
        self._demand = DemandStore(redis)
        self._engines = engines
        self._settings = settings
        self._free_memory_bytes = free_memory_bytes
        self._now = now
        self._started_at: dict[str, float] = {}
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Until cancelled."""
        swept_at = 0.0
        while True:
            try:
                asked = await self._redis.spop(redis_names.ENGINE_REQUESTS)
                if asked is not None:
                    await self.meet(asked.decode() if isinstance(asked, bytes) else str(asked))
                elif self._now() - swept_at >= SWEEP_S:
                    swept_at = self._now()
                    await self.sweep()
            except (RedisError, SQLAlchemyError) as error:
                self._log.warning("engine requests not met", reason=type(error).__name__)
                asked = None
            if asked is None:
                await asyncio.sleep(POLL_S)

    async def meet(self, model: str) -> None:
        """Starts the model's engine, or makes room for it. Raises RedisError, SQLAlchemyError."""
        if self._engines.is_running(model):
            return
        if not await self._engines.is_servable(model):
            self._log.warning("engine asked for that nobody can start", model=model)
            return
        running = self._running()
        if len(running) >= self._settings.max_engines or self._is_memory_below(self._settings.start_free_gib):
            if (idle := self._idlest(await self._uses(running), for_s=JUST_USED_S)) is None:
                self._log.warning("no room for an engine", model=model, running=len(running))
                return
            await self._end(idle, "another engine needs its place")
            if self._is_memory_below(self._settings.start_free_gib):
                return  # the next wish finds out whether it was enough
        self._log.info("engine starts on demand", model=model)
        self._started_at[model] = self._now()
        self._engines.start(model)

    async def sweep(self) -> None:
        """Ends engines without use, without a model, or, where memory is short, the one used longest ago."""
        running = self._running()
        for model in running:
            if not await self._engines.is_servable(model):
                await self._end(model, "its model was deleted")
        uses = await self._uses(self._running())
        while (idle := self._idlest(uses, for_s=self._settings.idle_s)) is not None:
            await self._end(idle, "nobody uses it")
            del uses[idle]
        memory_is_short = self._is_memory_below(self._settings.keep_free_gib)
        if memory_is_short and (idle := self._idlest(uses, for_s=JUST_USED_S)) is not None:
            await self._end(idle, "memory is short")

    def _running(self) -> list[str]:
        for model in [model for model in self._started_at if not self._engines.is_running(model)]:
            del self._started_at[model]
        return list(self._started_at)

    async def _uses(self, models: list[str]) -> dict[str, Use]:
        """Of engines that are up; one that is starting has been asked for."""
        used_at = await self._demand.of_engines()
        leases = {lease.model: lease for lease in await self._leases.alive()}
        return {
            model: Use(
                max(used_at.get(model, 0.0), self._started_at[model]),
                busy=leases[model].load.running + leases[model].load.waiting > 0,
            )
            for model in models
            if model in leases
        }

    def _idlest(self, uses: dict[str, Use], *, for_s: float) -> str | None:
        since = self._now() - for_s
        idle = {model: use.last_at for model, use in uses.items() if not use.busy and use.last_at <= since}
        return min(idle, key=lambda model: idle[model], default=None)

    async def _end(self, model: str, why: str) -> None:
        self._log.info("engine ends", model=model, why=why)
        await self._engines.stop(model)
        self._started_at.pop(model, None)

    def _is_memory_below(self, gib: float) -> bool:
        return self._free_memory_bytes() < gib * GIB
