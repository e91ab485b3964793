"""Watching jobs: events as they come, for any number of watchers, at the cost of one."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator

import structlog
from sqlalchemy.exc import SQLAlchemyError

from contracts.jobs import FINAL_STATUSES, JobEvent
from store.jobs import JobRepository, NumberedEvent

TAIL = 500
"""Events that are shared; a watcher that is further behind reads by itself."""
PAGE = 200
POLL_S = 5.0
KEEP_ALIVE_S = 15.0

log = structlog.get_logger(__name__)


class JobWatch:
    """Follows the jobs that somebody watches. A piece of news about a job costs one small query, however many watch.

    News (`look_soon`) wakes it; every `POLL_S` it looks by itself, since news may be lost while Redis is away.
    """

    def __init__(self, jobs: JobRepository) -> None:
        self._jobs = jobs
        self._topics: dict[str, _Topic] = {}
        self.is_closed = False

    def look_soon(self, job_id: str | None) -> None:
        """None means any job: news may have been missed."""
        for topic in self._topics.values() if job_id is None else filter(None, [self._topics.get(job_id)]):
            topic.look_soon()

    def close(self) -> None:
        """Ends every stream, so that the gateway can stop."""
        self.is_closed = True
        for topic in self._topics.values():
            topic.close()

    async def follow(self, job_id: str, *, after: int) -> AsyncGenerator[JobEvent | None, None]:
        """Events with a number above `after`, oldest first, until the job has ended and all is told.

        None every `KEEP_ALIVE_S` in which nothing happens. Raises SQLAlchemyError while it catches up.
        """
        topic = self._topics.get(job_id)
        if topic is None:
            topic = self._topics[job_id] = _Topic(self._jobs, job_id)
        topic.watchers += 1
        try:
            async for event in topic.follow(after):
                yield event
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                topic.stop()
                self._topics.pop(job_id, None)


class _Topic:
    """One watched job: its newest events, which one task reads and all watchers share."""

    def __init__(self, jobs: JobRepository, job_id: str) -> None:
        self._jobs, self._job_id = jobs, job_id
        self._tail: deque[NumberedEvent] = deque()
        self._tail_begins_after = self._tip = 0
        self._reader: asyncio.Task[None] | None = None
        self._news, self._changed = asyncio.Event(), asyncio.Event()
        self._is_complete = self._is_closed = False
        self.watchers = 0

    def look_soon(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._tell()

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    async def follow(self, cursor: int) -> AsyncGenerator[JobEvent | None, None]:
        while not self._is_closed:
            page = await self._events_after(cursor)
            for numbered in page:
                cursor = numbered.sequence
                yield numbered.event
            if page:
                continue
            if self._is_complete:
                return
            if not await self._wait():
                yield None

    async def _events_after(self, cursor: int) -> list[NumberedEvent]:
        if self._reader is not None and cursor >= self._tail_begins_after:
            return [numbered for numbered in self._tail if numbered.sequence > cursor]
        page = await asyncio.to_thread(self._jobs.events_since, self._job_id, cursor, limit=PAGE)
        if not page and self._reader is None:
            self._tail_begins_after = self._tip = cursor
            self._reader = asyncio.create_task(self._read_forever())
        return page

    async def _wait(self) -> bool:
        """Whether something has changed, within `KEEP_ALIVE_S`."""
        try:
            await asyncio.wait_for(self._changed.wait(), KEEP_ALIVE_S)
        except TimeoutError:
            return False
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _read_forever(self) -> None:
        while not self._is_complete:
            self._news.clear()
            try:
                is_complete, page = await asyncio.to_thread(self._read)
            except SQLAlchemyError as error:
                log.warning("events of a watched job not read", reason=type(error).__name__)
            else:
                self._share(page)
                self._is_complete = is_complete
                if page or is_complete:
                    self._tell()
                if len(page) == PAGE:
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), POLL_S)

    def _read(self) -> tuple[bool, list[NumberedEvent]]:
        """The status is read first: an ended job tells nothing more, so what is read after it is all there is."""
        job = self._jobs.get(self._job_id)
        page = self._jobs.events_since(self._job_id, self._tip, limit=PAGE)
        has_ended = job is None or job.status in FINAL_STATUSES
        return has_ended and len(page) < PAGE, page

    def _share(self, page: list[NumberedEvent]) -> None:
        for numbered in page:
            self._tail.append(numbered)
            self._tip = numbered.sequence
        while len(self._tail) > TAIL:
            self._tail_begins_after = self._tail.popleft().sequence
