"""Keeps the adapters that vLLM has loaded in step with the registry."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import structlog

from contracts.models import ModelCard
from store.artifacts import ArtifactStore, DigestMismatch
from store.models import ModelRepository

LOAD_TIMEOUT_S = 60.0


class AdapterSet:
    """What is loaded, by name and digest. `reconcile` loads what is missing and unloads what is gone.

    An adapter that cannot be fetched, fails its check or is refused by vLLM is logged and left out; the others
    are served all the same, and it is tried again at the next reconciliation.
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
        self._log = structlog.get_logger(__name__)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._loaded))

    def forget(self) -> None:
        """vLLM was started anew and has nothing loaded."""
        self._loaded.clear()

    async def reconcile(self) -> bool:
        """Whether anything changed. Raises SQLAlchemyError when the registry cannot be read."""
        before = dict(self._loaded)
        wanted = {card.name: card for card in await asyncio.to_thread(self._models.adapters_of, self._base)}
        for name, digest in before.items():
            if name not in wanted or wanted[name].digest != digest:
                await self._unload(name)
        for card in wanted.values():
            if card.name not in self._loaded:
                await self._load(card)
        return self._loaded != before

    async def _load(self, card: ModelCard) -> None:
        folder = self._folder / card.digest.replace(":", "-")
        try:
            await asyncio.to_thread(self._artifacts.download_folder, card.weights, folder, digest=card.digest)
            await self._post("/v1/load_lora_adapter", {"lora_name": card.name, "lora_path": str(folder)})
        except (OSError, DigestMismatch, httpx.HTTPError) as error:
            self._log.error("adapter not loaded", adapter=card.name, reason=f"{type(error).__name__}: {error}")
            with suppress(httpx.HTTPError):  # vLLM may have loaded it and only its answer was lost
                await self._post("/v1/unload_lora_adapter", {"lora_name": card.name})
            return
        self._loaded[card.name] = card.digest
        self._log.info("adapter loaded", adapter=card.name)

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
