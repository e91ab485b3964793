"""The owner of the tasks that outlive a request."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

CLOSE_TIMEOUT_S = 5.0


class Background:
    """Runs coroutines beside the requests, keeps them alive, logs what they raise, and ends them at the close."""

    def __init__(self) -> None:
        self._short: set[asyncio.Task[None]] = set()
        self._long: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger(__name__)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that ends by itself; a close waits for it."""
        self._own(self._short, work)

    def run_forever(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that goes on until the close cancels it."""
        self._own(self._long, work)

    async def close(self) -> None:
        for task in self._long:
            task.cancel()
        pending = self._short | self._long
        if pending:
            await asyncio.wait(pending, timeout=CLOSE_TIMEOUT_S)

    def _own(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("background work failed", exc_info=error)
