"""Keeps the adapters that vLLM has loaded in step with the registry and with what is asked for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import structlog
from redis.exceptions import RedisError

from contracts.models import ModelCard
from inference.copies import LocalCopies
from inference.load import read_adapters_in_flight
from inference.model_files import check_adapter
from inference.residency import Resident, Step, next_step
from store.artifacts import ArtifactRefused, ArtifactStore
from store.demand import AdapterDemand, DemandStore
from store.models import ModelRepository

LOAD_TIMEOUT_S = 60.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
LEAVE_POLL_S = 0.25
LEAVE_TIMEOUT_S = 60.0
"""vLLM goes on with the requests of an adapter that is unloaded: past this they are not waited for."""
NOTED_USES_PER_PLACE = 4

Announce = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Failure:
    """An adapter that could not be loaded, and when it may be tried again."""

    digest: str
    pause_s: float
    retry_at: float


class AdapterSet:
    """The adapters that are loaded, at most `places`: the most recently asked for, used or made of the registry's.

    An adapter that cannot be fetched, fails its check or is refused by vLLM is logged and left out; the others
    are served all the same, and it is tried again after ever longer pauses. One that must make room takes no new
    requests from then on, and is unloaded when those that it has are answered.
    """

    def __init__(
        self,
        base: str,
        models: ModelRepository,
        artifacts: ArtifactStore,
        demand: DemandStore,
        copies: LocalCopies,
        client: httpx.AsyncClient,
        *,
        places: int,
        max_rank: int,
        residence_s: float,
    ) -> None:
        self._base = base
        self._models = models
        self._artifacts = artifacts
        self._demand = demand
        self._copies = copies
        self._client = client
        self._places = places
        self._max_rank = max_rank
        self._residence_s = residence_s
        self._residents: dict[str, Resident] = {}
        self._failures: dict[str, Failure] = {}
        self._log = structlog.get_logger(__name__)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that take requests."""
        return tuple(sorted(name for name, adapter in self._residents.items() if adapter.leaving_since is None))

    def forget(self) -> None:
        """vLLM was started anew and has nothing loaded."""
        self._residents.clear()
        self._failures.clear()

    async def reconcile(self, announce: Announce) -> float | None:
        """Loads and unloads until all is as it should be; calls `announce` each time that `names` has changed.

        The seconds after which there is more to do, if there will be. Raises SQLAlchemyError when the registry cannot
        be read.
        """
        while True:
            in_flight = await self._in_flight()
            left = await self._let_go(in_flight)
            step = await self._next_step(in_flight)
            match step:
                case Step(drop=str(name)):
                    self._residents.pop(name)  # no new request is to come, whatever vLLM says
                    await announce()
                    await self._unload(name)
                case Step(load=ModelCard() as card, dismiss=str(name)):
                    if await self._fetch(card) is not None:  # nobody leaves for one that is damaged
                        self._residents[name] = replace(self._residents[name], leaving_since=time.time())
                        await announce()
                case Step(load=ModelCard() as card):
                    if await self._load(card):
                        await announce()
                case _ if not left:
                    return LEAVE_POLL_S if self._leaving() else step.again_in_s

    async def _next_step(self, in_flight: frozenset[str]) -> Step:
        demand = await self._read_demand()
        known = [*self._residents]
        if demand is not None:
            known += [*demand.used_at, *demand.wanted_since]
        found = await asyncio.to_thread(
            self._models.adapters_of, self._base, named=known, newest=self._places + len(self._failures)
        )
        cards = {card.name: card for card in found if self._may_try(card)}
        return next_step(
            cards,
            self._residents,
            demand,
            in_flight=in_flight,
            places=self._places,
            residence_s=self._residence_s,
            now=time.time(),
        )

    async def _read_demand(self) -> AdapterDemand | None:
        try:
            return await self._demand.of_adapters(self._base, most=NOTED_USES_PER_PLACE * self._places)
        except RedisError as error:
            self._log.warning("demand for adapters not read", reason=type(error).__name__)
            return None

    def _leaving(self) -> dict[str, float]:
        return {name: found.leaving_since for name, found in self._residents.items() if found.leaving_since is not None}

    async def _in_flight(self) -> frozenset[str]:
        """Asked only where it matters: when an adapter may have to leave."""
        if len(self._residents) < self._places and not self._leaving():
            return frozenset()
        try:
            return await read_adapters_in_flight(self._client)
        except httpx.HTTPError:
            return frozenset(self._residents)

    async def _let_go(self, in_flight: frozenset[str]) -> bool:
        """Unloads those that were to leave and have nothing left to answer. Whether there were any."""
        done = [
            name
            for name, since in self._leaving().items()
            # What gateways sent before they heard of it arrives within a moment.
            if time.time() - since > (LEAVE_TIMEOUT_S if name in in_flight else LEAVE_POLL_S)
        ]
        for name in done:
            self._residents.pop(name)
            await self._unload(name)
        return bool(done)

    async def _fetch(self, card: ModelCard) -> Path | None:
        """The adapter's folder on this machine, checked; None where there is none to be had."""
        folder = self._copies.adapter(card.digest)
        try:
            await asyncio.to_thread(self._artifacts.download_model, card.weights, folder, digest=card.digest)
            await asyncio.to_thread(check_adapter, folder, base=self._base, max_rank=self._max_rank)
        except (OSError, ArtifactRefused) as error:
            self._note_failure(card, error)
            return None
        return folder

    async def _load(self, card: ModelCard) -> bool:
        folder = await self._fetch(card)
        if folder is None:
            return False
        try:
            await self._post("/v1/load_lora_adapter", {"lora_name": card.name, "lora_path": str(folder)})
        except httpx.HTTPError as error:
            self._note_failure(card, error)
            with suppress(httpx.HTTPError):  # vLLM may have loaded it and only its answer was lost
                await self._post("/v1/unload_lora_adapter", {"lora_name": card.name})
            return False
        self._residents[card.name] = Resident(card.digest, loaded_at=time.time())
        self._failures.pop(card.name, None)
        self._log.info("adapter loaded", adapter=card.name)
        return True

    def _may_try(self, card: ModelCard) -> bool:
        failure = self._failures.get(card.name)
        return failure is None or failure.digest != card.digest or time.monotonic() >= failure.retry_at

    def _note_failure(self, card: ModelCard, error: Exception) -> None:
        self._log.error("adapter not loaded", adapter=card.name, reason=f"{type(error).__name__}: {error}")
        last = self._failures.get(card.name)
        pause_s = FIRST_PAUSE_S if last is None else min(2 * last.pause_s, LONGEST_PAUSE_S)
        self._failures[card.name] = Failure(card.digest, pause_s, time.monotonic() + pause_s)

    async def _unload(self, name: str) -> None:
        try:
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except httpx.HTTPError as error:
            self._log.error("adapter not unloaded", adapter=name, reason=f"{type(error).__name__}: {error}")
            return
        self._log.info("adapter unloaded", adapter=name)

    async def _post(self, path: str, body: dict[str, str]) -> None:
        answer = await self._client.post(path, json=body, timeout=LOAD_TIMEOUT_S)
        answer.raise_for_status()
