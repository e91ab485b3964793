"""The engine's claim to traffic."""

import asyncio

import structlog
from redis.exceptions import RedisError

from contracts.engine import EngineLease
from contracts.identifiers import new_id
from contracts.settings import EngineSettings
from inference.adapters import AdapterSet
from inference.catalogue import CatalogueModel
from inference.pulse import Pulse
from store.leases import LeaseStore

RENEWALS_PER_TTL = 3
SILENT_AFTER_S = 10.0
REDIS_TIMEOUT_S = 3.0


class LeaseHolder:
    """Writes the lease while vLLM answers. While Redis is away it goes on trying: vLLM serves all the same."""

    def __init__(
        self, model: CatalogueModel, settings: EngineSettings, leases: LeaseStore, pulse: Pulse, adapters: AdapterSet
    ) -> None:
        self.engine = new_id("engine")
        self._model = model
        self._settings = settings
        self._leases = leases
        self._pulse = pulse
        self._adapters = adapters
        self._draining = False
        self._held = False
        self._redis_is_away = False
        self._log = structlog.get_logger(__name__)

    async def hold(self) -> None:
        """Renews the lease until cancelled; lets go of it while vLLM is silent."""
        await self.renew(announce=True)
        while True:
            await asyncio.sleep(self._settings.lease_ttl_s / RENEWALS_PER_TTL)
            if self._pulse.silent_s < SILENT_AFTER_S:
                await self.renew()
            else:
                await self.end()

    async def renew(self, *, announce: bool = False) -> None:
        announce = announce or not self._held
        self._held = True  # from now on it may be there, whatever becomes of the call
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._leases.put(self._lease(), ttl_s=self._settings.lease_ttl_s)
                if announce:
                    await self._leases.announce(self.engine)
        except (RedisError, TimeoutError) as error:
            self._tell_that_redis_is_away(error)
            return
        self._redis_is_away = False

    async def drain(self) -> None:
        """Tells gateways to send nothing new."""
        self._draining = True
        await self.renew(announce=True)

    async def end(self) -> None:
        if not self._held:
            return
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._leases.remove(self.engine)
        except (RedisError, TimeoutError) as error:
            self._tell_that_redis_is_away(error)  # the lease ends by itself
            return
        self._held = False

    def _lease(self) -> EngineLease:
        return EngineLease(
            engine=self.engine,
            url=f"http://{self._settings.host}:{self._settings.port}",
            model=self._model.name,
            task=self._model.task,
            adapters=self._adapters.names,
            capacity=self._model.engine.max_num_seqs,
            context_length=self._model.context_length,
            draining=self._draining,
            load=self._pulse.load,
        )

    def _tell_that_redis_is_away(self, error: Exception) -> None:
        if not self._redis_is_away:
            self._log.warning("lease not written; trying until Redis is back", reason=type(error).__name__)
        self._redis_is_away = True
