"""The way from the gateway to the process that redacts and writes."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress

import structlog

from gateway.background import Background
from gateway.metrics import Metrics

HEAD_BYTES = 4
CLOSE_TIMEOUT_S = 10.0
RESTART_PAUSE_S = 1.0


class CaptureFeed:
    """A bounded queue before the pipe to `python -m gateway.capture`, which starts with the first capture.

    What finds no room is dropped. When the process dies, what it had not written is lost, and another one starts. Both
    are counted; nobody waits. When the gateway is killed the process writes what it has, and ends.
    """

    def __init__(self, background: Background, metrics: Metrics, *, max_bytes: int) -> None:
        self._background = background
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._more = asyncio.Event()
        self._running = False
        self._closing = False
        self._sent = 0
        self._log = structlog.get_logger(__name__)

    def offer(self, capture: bytes) -> None:
        if self._closing or self._queued_bytes + len(capture) > self._max_bytes:
            self.count("dropped")
            return
        self._queue.append(capture)
        self._queued_bytes += len(capture)
        self._more.set()
        if not self._running:
            self._running = True
            self._background.start(self._run())

    def count(self, result: str, captures: int = 1) -> None:
        self._metrics.captures.labels(result).inc(captures)

    def close(self) -> None:
        """Nothing more is taken. `Background.close` then waits for what is on its way."""
        self._closing = True
        self._more.set()

    async def _run(self) -> None:
        while not self._closing or self._queue:
            try:
                await self._feed_one_process()
            except OSError as error:  # it could not start, or has ended
                self._log.error("captures are not written", reason=type(error).__name__)
                if self._closing:
                    break
                await asyncio.sleep(RESTART_PAUSE_S)
        self.count("lost", len(self._queue))

    async def _feed_one_process(self) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway.capture", stdin=PIPE, stdout=PIPE)
        told = asyncio.create_task(self._hear(process))
        try:
            await self._send(process)
        finally:
            await self._end(process, told)

    async def _send(self, process: Process) -> None:
        """Returns at the close. Raises OSError when the process ends before."""
        assert process.stdin is not None
        while True:
            while self._queue:
                capture = self._queue.popleft()
                self._queued_bytes -= len(capture)
                self._sent += 1
                process.stdin.write(len(capture).to_bytes(HEAD_BYTES, "big") + capture)
                await process.stdin.drain()
            if self._closing:
                return
            self._more.clear()
            await self._more.wait()
            if process.returncode is not None:
                raise BrokenPipeError

    async def _hear(self, process: Process) -> None:
        """The process tells with each batch how many captures it has written, skipped and lost."""
        assert process.stdout is not None
        async for line in process.stdout:
            for result, number in zip(("written", "skipped", "lost"), line.split(), strict=True):
                self._sent -= int(number)
                self.count(result, int(number))

    async def _end(self, process: Process, told: "asyncio.Task[None]") -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await told
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
        self.count("lost", self._sent)
        self._sent = 0
