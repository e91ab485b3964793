"""One vLLM process, with everything that it starts."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from inference.command import EngineCommand

LOGGING = Path(__file__).with_name("logging.json")
"""Gives vLLM's lines the form of all others. A study reads its engines' last words, and starts them without."""
STOP_TIMEOUT_S = 5.0
HEALTH_POLL_S = 0.5


class EngineFailed(Exception):
    """vLLM ended, did not become healthy in time, or no longer answers; its own log says why."""


class EngineProcess:
    """vLLM in a process group of its own, so that all of it ends together, with the agent at the latest."""

    def __init__(self, process: asyncio.subprocess.Process, guard: asyncio.subprocess.Process) -> None:
        self._process = process
        self._guard = guard

    @classmethod
    async def start(cls, command: EngineCommand) -> "EngineProcess":
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            env=_with_logging(command.environment),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference.guard", str(process.pid)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # who kills the agent's group must not reach it
        )
        return cls(process, guard)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def watch(self) -> None:
        """Waits for vLLM's end. Raises EngineFailed then."""
        raise EngineFailed(f"vLLM ended with exit code {await self._process.wait()}.")

    async def wait_until_healthy(self, client: httpx.AsyncClient, *, timeout_s: float) -> None:
        """Raises EngineFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await _is_healthy(client):
                    if self._process.returncode is not None:
                        raise EngineFailed(f"vLLM ended with exit code {self._process.returncode}.")
                    await asyncio.sleep(HEALTH_POLL_S)
        except TimeoutError:
            raise EngineFailed(f"vLLM was not healthy after {timeout_s:.0f} s.") from None

    async def stop(self) -> None:
        """Asks vLLM to stop, and soon ends what is left of its group: asked to stop, vLLM breaks off every request
        but waits without end for the clients to hang up."""
        if self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            self._guard.kill()
        await asyncio.gather(self._process.wait(), self._guard.wait())


def _with_logging(environment: Mapping[str, str]) -> dict[str, str]:
    """Unless the operator has said otherwise."""
    if environment.get("VLLM_CONFIGURE_LOGGING") == "0":
        return dict(environment)
    return {"VLLM_LOGGING_CONFIG_PATH": str(LOGGING), **environment}


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
