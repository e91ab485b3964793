"""`python -m workers`: one worker. SIGTERM gives the running job back to the queue and ends the worker."""

import logging
import os
import socket
import sys

from contracts.settings import Settings
from telemetry.logs import configure_logs
from workers.celery_app import SERVICE, create_worker, scratch_parent
from workers.families import all_families
from workers.registry import JobFamilies
from workers.scratch import remove_ownerless


def run_worker(settings: Settings, families: JobFamilies) -> int:
    """Runs until SIGTERM or SIGINT. The exit code."""
    configure_logs(SERVICE, settings.telemetry.log_level)
    logging.captureWarnings(True)
    remove_ownerless(scratch_parent(settings))
    celery = create_worker(settings, families)
    worker = celery.Worker(
        hostname=f"worker-{os.getpid()}@{socket.gethostname()}",
        queues=settings.worker.queues,
        pool="prefork",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return worker.exitcode or 0


if __name__ == "__main__":
    sys.exit(run_worker(Settings(), all_families()))
