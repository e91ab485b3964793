"""Keeps the adapters that vLLM has loaded in step with the registry."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from contracts.models import ModelCard
from store.artifacts import ArtifactStore, DigestMismatch
from store.models import ModelRepository

LOAD_TIMEOUT_S = 60.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An adapter that could not be loaded, and when it may be tried again."""

    digest: str
    pause_s: float
    retry_at: float


class AdapterSet:
    """What is loaded, by name and digest. `reconcile` loads what is missing and unloads what is gone.

    An adapter that cannot be fetched, fails its check or is refused by vLLM is logged and left out; the others
    are served all the same, and it is tried again after ever longer pauses.
    """

    def __init__(
        self, base: str, models: ModelRepository, artifacts: ArtifactStore, folder: Path, client: httpx.AsyncClient
    ) -> None:
        self._base = base
        self._models = models
        self._artifacts = artifacts
        self._folder = folder
        self._client = client
        self._loaded: dict[str, str] = {}
        self._failures: dict[str, Failure] = {}
        self._log = structlog.get_logger(__name__)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._loaded))

    def forget(self) -> None:
        """vLLM was started anew and has nothing loaded."""
        self._loaded.clear()
        self._failures.clear()

    async def reconcile(self) -> bool:
        """Whether anything changed. Raises SQLAlchemyError when the registry cannot be read."""
        before = dict(self._loaded)
        wanted = {card.name: card for card in await asyncio.to_thread(self._models.adapters_of, self._base)}
        for name, digest in before.items():
            if name not in wanted or wanted[name].digest != digest:
                await self._unload(name)
        for card in wanted.values():
            if card.name not in self._loaded and self._may_try(card):
                await self._load(card)
        return self._loaded != before

    async def _load(self, card: ModelCard) -> None:
        folder = self._folder / card.digest.replace(":", "-")
        try:
            await asyncio.to_thread(self._artifacts.download_folder, card.weights, folder, digest=card.digest)
            await self._post("/v1/load_lora_adapter", {"lora_name": card.name, "lora_path": str(folder)})
        except (OSError, DigestMismatch, httpx.HTTPError) as error:
            self._log.error("adapter not loaded", adapter=card.name, reason=f"{type(error).__name__}: {error}")
            self._remember_failure(card)
            with suppress(httpx.HTTPError):  # vLLM may have loaded it and only its answer was lost
                await self._post("/v1/unload_lora_adapter", {"lora_name": card.name})
            return
        self._loaded[card.name] = card.digest
        self._failures.pop(card.name, None)
        self._log.info("adapter loaded", adapter=card.name)

    def _may_try(self, card: ModelCard) -> bool:
        failure = self._failures.get(card.name)
        return failure is None or failure.digest != card.digest or time.monotonic() >= failure.retry_at

    def _remember_failure(self, card: ModelCard) -> None:
        last = self._failures.get(card.name)
        pause_s = FIRST_PAUSE_S if last is None else min(2 * last.pause_s, LONGEST_PAUSE_S)
        self._failures[card.name] = Failure(card.digest, pause_s, time.monotonic() + pause_s)

    async def _unload(self, name: str) -> None:
        self._loaded.pop(name)  # no new request is to come, whatever vLLM says
        try:
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except httpx.HTTPError as error:
            self._log.error("adapter not unloaded", adapter=name, reason=f"{type(error).__name__}: {error}")
            return
        self._log.info("adapter unloaded", adapter=name)

    async def _post(self, path: str, body: dict[str, str]) -> None:
        answer = await self._client.post(path, json=body, timeout=LOAD_TIMEOUT_S)
        answer.raise_for_status()
