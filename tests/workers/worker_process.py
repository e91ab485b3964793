"""`python -m tests.workers.worker_process`: the real worker with one family more, whose jobs last as long as they say.

It is a program of its own because families are part of a worker's code and not of its settings.
"""

import sys
import time

from pydantic import BaseModel

from contracts.settings import Settings
from workers.__main__ import run_worker
from workers.registry import JobFamilies, job_family
from workers.run import JobResult, JobRun


class SleepSpec(BaseModel):
    seconds: float


@job_family("test.sleep")
def sleep(spec: SleepSpec, run: JobRun) -> JobResult:
    run.message(f"torch imported: {'torch' in sys.modules}")
    ends_at = time.monotonic() + (spec.seconds if run.fence == 1 else 0)
    while time.monotonic() < ends_at:
        run.check()
        time.sleep(0.02)
    return JobResult("Slept.")


@job_family("test.block")
def block(spec: SleepSpec, run: JobRun) -> JobResult:
    """A step that is deep in a library for minutes: nothing here looks whether the job was cancelled."""
    run.message(f"torch imported: {'torch' in sys.modules}")
    (run.scratch / "state").write_text("half written")
    time.sleep(spec.seconds)
    return JobResult("Slept.")


if __name__ == "__main__":
    sys.exit(run_worker(Settings(), JobFamilies([sleep, block])))
