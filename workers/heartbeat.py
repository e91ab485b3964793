"""The heartbeat of a running job: keeps its lease alive, and hears when the job must stop."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from contracts.jobs import AT_WORK
from store.job_rows import LeaseLost
from store.jobs import JobRepository

RENEWALS_PER_LEASE = 3
UNWIND_S = 0.4
"""How long a cancelled job may take to notice it, before its process is ended: one short training step."""

log = structlog.get_logger(__name__)


class JobCancelled(Exception):
    """The person who started the job wants it no more."""


class JobInterrupted(Exception):
    """This worker stops; another one shall run the job."""


class JobPaused(Exception):
    """The person who started the job wants it to rest."""


class Heartbeat:
    """A thread that looks at a job's row every `interval_s` while the block runs, and renews its lease in time.

    `check` raises in the caller's thread once there is a reason to stop: JobCancelled, LeaseLost (another worker has
    the job, or the database was away for longer than the lease), JobPaused, or JobInterrupted (`must_stop` says so).

    A job can be deep in a step that takes minutes when it is cancelled. If the block has not ended `UNWIND_S` later,
    the thread calls `end_process`.
    """

    def __init__(
        self,
        jobs: JobRepository,
        job_id: str,
        fence: int,
        *,
        lease_s: float,
        interval_s: float,
        must_stop: Callable[[], bool],
        end_process: Callable[[], None],
    ) -> None:
        self._jobs, self._job_id, self._fence = jobs, job_id, fence
        self._lease_s, self._interval_s = lease_s, interval_s
        self._must_stop, self._end_process = must_stop, end_process
        self._ended = threading.Event()
        self._lost: Exception | None = None
        self._rest = False
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def must_rest(self) -> bool:
        """The job shall stop here, and may keep what it has."""
        return self._rest or self._must_stop()

    def check(self, *, may_save: bool = False) -> None:
        """With `may_save` it does not raise for what leaves time to save (JobPaused, JobInterrupted)."""
        if self._lost is not None:
            raise self._lost
        if may_save:
            return
        if self._rest:
            raise JobPaused(self._job_id)
        if self._must_stop():
            raise JobInterrupted(self._job_id)

    def _beat(self) -> None:
        seen_at = renewed_at = time.monotonic()
        while not self._ended.wait(self._interval_s):
            now = time.monotonic()
            try:
                # It is paused, or paused and resumed already; either way this attempt comes to rest.
                self._rest = self._rest or self._jobs.held_status(self._job_id, self._fence) not in AT_WORK
                if now - renewed_at >= self._lease_s / RENEWALS_PER_LEASE:
                    self._jobs.renew(self._job_id, self._fence, lease_s=self._lease_s)
                    renewed_at = now
                seen_at = now
            except LeaseLost as lost:
                self._lost = self._why_lost(lost)
                break
            except SQLAlchemyError as error:
                log.warning("heartbeat missed", reason=type(error).__name__)
                if now - seen_at > self._lease_s:
                    self._lost = LeaseLost(self._job_id)
                    break
        if isinstance(self._lost, JobCancelled) and not self._ended.wait(UNWIND_S):
            self._end_process()

    def _why_lost(self, lost: LeaseLost) -> Exception:
        try:
            job = self._jobs.get(self._job_id)
        except SQLAlchemyError as error:
            log.warning("reason of a lost lease not read", reason=type(error).__name__)
            return lost
        return JobCancelled(self._job_id) if job is not None and job.status == "cancelled" else lost
