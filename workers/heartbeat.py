"""The heartbeat of a running job: keeps its lease alive, and hears when the job must stop."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store.jobs import JobRepository, LeaseLost

log = structlog.get_logger(__name__)


class JobCancelled(Exception):
    """The person who started the job wants it no more."""


class JobInterrupted(Exception):
    """This worker stops; another one shall run the job."""


class Heartbeat:
    """A thread that renews a job's lease every `interval_s` while the block runs: one small write each time.

    `check` raises in the caller's thread once there is a reason to stop: JobCancelled, LeaseLost (another worker has
    the job, or the database was away for longer than the lease), or JobInterrupted (`must_stop` says so).
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
    ) -> None:
        self._jobs, self._job_id, self._fence = jobs, job_id, fence
        self._lease_s, self._interval_s, self._must_stop = lease_s, interval_s, must_stop
        self._ended = threading.Event()
        self._reason: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        if self._reason is not None:
            raise self._reason
        if self._must_stop():
            raise JobInterrupted(self._job_id)

    def _beat(self) -> None:
        renewed_at = time.monotonic()
        while not self._ended.wait(self._interval_s):
            try:
                self._jobs.renew(self._job_id, self._fence, lease_s=self._lease_s)
                renewed_at = time.monotonic()
            except LeaseLost as lost:
                self._reason = self._why_lost(lost)
                return
            except SQLAlchemyError as error:
                log.warning("heartbeat missed", reason=type(error).__name__)
                if time.monotonic() - renewed_at > self._lease_s:
                    self._reason = LeaseLost(self._job_id)
                    return

    def _why_lost(self, lost: LeaseLost) -> Exception:
        try:
            job = self._jobs.get(self._job_id)
        except SQLAlchemyError as error:
            log.warning("reason of a lost lease not read", reason=type(error).__name__)
            return lost
        return JobCancelled(self._job_id) if job is not None and job.status == "cancelled" else lost
