"""One child process of the supervisor."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _ask_to_stop_with_parent() -> None:
    """Has the kernel ask the child to stop when the supervisor is killed (prctl(2)). Runs between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process in a session of its own, so that Ctrl-C passes it by and all it starts can be ended together."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> "Child":
        """Raises OSError where the program cannot be started. Its output is added to `log`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_ask_to_stop_with_parent,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, *, grace_s: float) -> bool:
        """Asks it to stop, and kills what is left of its group after `grace_s`. Whether it stopped when asked."""
        asked = await self._ask(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        return asked

    async def _ask(self, grace_s: float) -> bool:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            return False
        return True
