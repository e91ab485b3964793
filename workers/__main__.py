"""`python -m workers`: one worker. SIGTERM gives the running job back to the queue and ends the worker."""

import logging
import os
import socket
import sys

from contracts.settings import Settings
from telemetry.logs import configure_logs
from workers.celery_app import SERVICE, create_worker


def main() -> int:
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    logging.captureWarnings(True)
    celery = create_worker(settings)
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
    sys.exit(main())
