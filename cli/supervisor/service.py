"""What the supervisor needs to know of a service, and how it keeps one running."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from cli.supervisor.child import Child
from cli.supervisor.log_tail import telling_lines
from cli.supervisor.state import Failure, StateFile

READY_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Service:
    """A program, how to tell that it works, and what to do when it does not.

    Services of a higher `stop_rank` stop before those of a lower one.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    is_ready: Callable[[], Awaitable[bool]]
    advice: str
    start_timeout_s: float = 60.0
    stop_grace_s: float = 15.0
    stop_rank: int = 0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Pauses double from `first_pause_s`; `most_failures` lives in a row shorter than `short_life_s` mean failed."""

    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0
    short_life_s: float = 60.0
    most_failures: int = 5


class ServiceFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.step}: {failure.why}")
        self.failure = failure


class Keeper:
    """Keeps one service running: `start` once, `watch` for ever after, `stop` at the end."""

    def __init__(self, service: Service, states: StateFile, policy: RestartPolicy | None = None) -> None:
        self.service = service
        self._states = states
        self._policy = policy or RestartPolicy()
        self._child: Child | None = None
        self._log = structlog.get_logger(__name__)

    async def start(self) -> None:
        """Starts the service and waits until it is ready. Raises ServiceFailed; nothing of it runs on then."""
        service, started_at = self.service, time.monotonic()
        self._states.set(service.name, status="starting", since=time.time(), seconds=None, pid=None, failure=None)
        service.log.parent.mkdir(parents=True, exist_ok=True)
        logged_bytes = service.log.stat().st_size if service.log.exists() else 0
        try:
            self._child = await Child.start(
                service.command, environment=service.environment, folder=service.folder, log=service.log
            )
        except OSError as error:
            raise ServiceFailed(self._failure(f"{service.command[0]} cannot be started: {error.strerror}")) from None
        self._states.set(service.name, pid=self._child.pid)
        why = await self._wait_until_ready(self._child)
        if why is not None:
            await self._child.stop(grace_s=service.stop_grace_s)
            told = telling_lines(service.log, since_byte=logged_bytes)
            raise ServiceFailed(self._failure(f"{why} Its log says:\n{told}"))
        self._states.set(service.name, status="ready", seconds=time.monotonic() - started_at)
        self._log.info("service ready", name=service.name, seconds=round(time.monotonic() - started_at, 2))

    async def watch(self) -> None:
        """Starts the service again each time it ends. Returns when it has failed too often in a row."""
        failures, pause_s, lived_since = 0, self._policy.first_pause_s, time.monotonic()
        while True:
            why = await self._wait_until_ended()
            if time.monotonic() - lived_since > self._policy.short_life_s:
                failures, pause_s = 0, self._policy.first_pause_s
            failures += 1
            if failures >= self._policy.most_failures:
                self._give_up(why)
                return
            self._log.warning("service ended", name=self.service.name, why=why, restart_in_s=pause_s)
            restarts = self._states.step(self.service.name).restarts + 1
            self._states.set(self.service.name, status="restarting", pid=None, restarts=restarts)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._policy.longest_pause_s)
            lived_since = time.monotonic()
            try:
                await self.start()
            except ServiceFailed as error:
                self._log.warning("service not restarted", name=self.service.name, why=error.failure.why)

    async def stop(self) -> None:
        if self._child is None:
            return
        if self._states.step(self.service.name).status == "failed":
            await self._child.stop(grace_s=self.service.stop_grace_s)
            return
        self._states.set(self.service.name, status="stopping", seconds=None)
        if not await self._child.stop(grace_s=self.service.stop_grace_s):
            self._log.warning("service killed", name=self.service.name, after_s=self.service.stop_grace_s)
        self._states.set(self.service.name, status="stopped", pid=None)

    async def _wait_until_ready(self, child: Child) -> str | None:
        """None when it is ready, else why it never will be."""
        deadline = time.monotonic() + self.service.start_timeout_s
        while child.exit_code is None:
            if await self.service.is_ready():
                return None
            if time.monotonic() > deadline:
                return f"It was not ready after {self.service.start_timeout_s:.0f} s."
            await asyncio.sleep(READY_POLL_S)
        return f"It {_describe(child.exit_code)}."

    async def _wait_until_ended(self) -> str:
        assert self._child is not None
        return f"It {_describe(await self._child.wait())}."

    def _give_up(self, why: str) -> None:
        failure = self._failure(
            f"{why} It failed {self._policy.most_failures} times in a row. Its log says:\n"
            + telling_lines(self.service.log)
        )
        self._states.set(self.service.name, status="failed", pid=None, failure=failure)
        self._log.error("service failed", name=self.service.name, why=failure.why)

    def _failure(self, why: str) -> Failure:
        return Failure(step=self.service.name, why=why, advice=self.service.advice, log=str(self.service.log))


def _describe(exit_code: int) -> str:
    return f"ended with exit code {exit_code}" if exit_code >= 0 else f"was killed by signal {-exit_code}"
