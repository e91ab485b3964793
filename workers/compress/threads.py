"""Several requests at a time, by a job that may be cancelled at any moment."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from workers.run import JobRun

POLL_S = 0.25
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def all_at_once(work: Callable[[Item], Answer], items: Sequence[Item], run: JobRun, *, at_once: int) -> list[Answer]:
    """In the order of the items. Raises what `work` or `run.check` raises, without waiting for what is under way: the
    engine that is asked ends then, and the requests with it."""
    threads = ThreadPoolExecutor(at_once)
    try:
        futures = [threads.submit(work, item) for item in items]
        pending = set(futures)
        while pending:
            run.check()
            done, pending = wait(pending, POLL_S, FIRST_EXCEPTION)
            for future in done:
                future.result()
        return [future.result() for future in futures]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
