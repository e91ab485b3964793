"""`python -m workers.finetune.follower RANK`: lends this machine to the trainings of a worker on another.

Machines that train together have ranks from 0, which is the worker's. torchrun waits at the meeting point until the
worker has a job, and ends with it; then it waits for the next one.
"""

import signal
import subprocess
import sys
import time

import structlog

from contracts.settings import Settings
from telemetry.logs import configure_logs
from workers.celery_app import SERVICE, machines_of, scratch_parent
from workers.finetune.torchrun import torchrun_command, torchrun_environment

PAUSE_S = 1.0

log = structlog.get_logger(__name__)


def follow(settings: Settings, rank: int) -> None:
    """Until SIGTERM. Raises SystemExit where the settings speak of one machine."""
    worker = settings.worker
    machines = machines_of(worker, scratch_parent(settings))
    if machines is None:
        sys.exit("FLYWHEEL_WORKER__MACHINES is 1: there is nobody to follow.")
    command = torchrun_command(worker.processes, machines.task_file, None, machines, rank=rank)
    environment = torchrun_environment(worker.threads, worker.processes, machines)
    while True:
        ended = subprocess.run(command, env=environment, check=False)
        log.info("training left", code=ended.returncode, rank=rank)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    configure_logs(SERVICE, Settings().telemetry.log_level)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    follow(Settings(), int(sys.argv[1]))
