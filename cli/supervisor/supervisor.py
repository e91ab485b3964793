"""Brings a set of services up, keeps them up, and takes them down in the right order."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from cli.supervisor.service import Keeper, RestartPolicy, Service, ServiceFailed
from cli.supervisor.state import Failure, StateFile


class Supervisor:
    """Owns the services' processes and the tasks that watch them."""

    def __init__(self, states: StateFile, policy: RestartPolicy | None = None) -> None:
        self._states = states
        self._policy = policy
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger(__name__)

    def announce(self, *names: str) -> None:
        """Names steps that are to come, in the order in which they are shown."""
        for name in names:
            self._states.step(name)
        self._states.save()

    async def start(self, *services: Service) -> None:
        """Starts services together, and keeps each one up from then on. Raises the first ServiceFailed."""
        keepers = [Keeper(service, self._states, self._policy) for service in services]
        self._keepers |= {keeper.service.name: keeper for keeper in keepers}
        starts = [asyncio.create_task(keeper.start()) for keeper in keepers]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        for keeper in keepers:
            self._own(keeper.service.name, keeper.watch())

    def start_later(self, service: Service) -> None:
        """Starts a service without waiting. When it fails, only it is given up: a later call tries again."""
        if service.name in self._tasks and not self._tasks[service.name].done():
            return
        self._own(service.name, self._start_and_watch(service))

    def runs(self, name: str) -> bool:
        return name in self._tasks and not self._tasks[name].done()

    async def stop_one(self, name: str) -> None:
        """Stops a service, and no longer keeps it up."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if (keeper := self._keepers.pop(name, None)) is not None:
            await keeper.stop()

    async def stop(self) -> None:
        """Stops everything, the services of a higher rank first and those of one rank together."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        rank: Callable[[Keeper], int] = lambda keeper: -keeper.service.stop_rank  # noqa: E731
        for _, keepers in itertools.groupby(sorted(self._keepers.values(), key=rank), key=rank):
            await asyncio.gather(*(keeper.stop() for keeper in keepers))

    async def _start_and_watch(self, service: Service) -> None:
        keeper = self._keepers[service.name] = Keeper(service, self._states, self._policy)
        try:
            await keeper.start()
        except ServiceFailed as error:
            self.report(error.failure)
            return
        await keeper.watch()

    def report(self, failure: Failure) -> None:
        self._states.set(failure.step, status="failed", pid=None, failure=failure)
        self._log.error("step failed", step=failure.step, why=failure.why)

    def _own(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)
