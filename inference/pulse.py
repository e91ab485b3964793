"""How vLLM is, as of its last answer."""

import asyncio
import time

import httpx

from contracts.engine import EngineLoad
from inference.load import read_load
from inference.process import EngineFailed

GIVE_UP_AFTER_S = 60.0


class Pulse:
    """Asks vLLM for its health and load every `interval_s`."""

    def __init__(self, client: httpx.AsyncClient, *, interval_s: float) -> None:
        self._client = client
        self._interval_s = interval_s
        self._answered_at = time.monotonic()
        self.load = EngineLoad()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self._answered_at

    async def follow(self) -> None:
        """Raises EngineFailed once vLLM says that it is broken, or has said nothing for too long."""
        self._answered_at = time.monotonic()
        while self.silent_s < GIVE_UP_AFTER_S:
            await self._ask()
            await asyncio.sleep(self._interval_s)
        raise EngineFailed(f"vLLM has not answered for {self.silent_s:.0f} s.")

    async def _ask(self) -> None:
        try:
            health = await self._client.get("/health")
            self.load = await read_load(self._client)
        except httpx.HTTPError:
            return
        if health.is_server_error:
            raise EngineFailed(f"vLLM says that it is broken (status {health.status_code}).")
        self._answered_at = time.monotonic()
