"""One vLLM process, with everything that it starts."""

import asyncio
import ctypes
import os
import signal
from contextlib import suppress

import httpx

from inference.command import EngineCommand

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 20.0
HEALTH_POLL_S = 0.5


class EngineStartFailed(Exception):
    """vLLM ended, or did not become healthy in time; its own log says why."""


def _die_with_parent() -> None:
    """Has the kernel ask vLLM to stop when the agent is killed (prctl(2)); vLLM then stops its own processes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class EngineProcess:
    """vLLM in a process group of its own, so that all of it can be ended together."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: EngineCommand) -> "EngineProcess":
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            env=dict(command.environment),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Waits for the end and returns the exit code."""
        return await self._process.wait()

    async def wait_until_healthy(self, client: httpx.AsyncClient, *, timeout_s: float) -> None:
        """Raises EngineStartFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await _is_healthy(client):
                    if self._process.returncode is not None:
                        raise EngineStartFailed(f"vLLM ended with exit code {self._process.returncode}.")
                    await asyncio.sleep(HEALTH_POLL_S)
        except TimeoutError:
            raise EngineStartFailed(f"vLLM was not healthy after {timeout_s:.0f} s.") from None

    async def stop(self) -> None:
        """Asks vLLM to stop, and ends what is left of its group after a while. Does nothing a second time."""
        if self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
