"""`python -m gateway.capture`: started by a gateway, which it outlives only to write what it has."""

import os
import signal

from contracts.settings import Settings
from gateway.capture.reading import CaptureReader
from gateway.capture.writing import CaptureWriter, standard_input
from store.captures import CaptureRepository
from store.database import Database
from telemetry.logs import configure_logs

SERVICE = "flywheel-capture"
NICENESS = 10
"""Answers come first."""


def main() -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):  # meant for the gateway, whose end closes the pipe
        signal.signal(stop, signal.SIG_IGN)
    os.nice(NICENESS)
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    database = Database(settings.database_url)
    reader = CaptureReader(settings.auth.pepper.get_secret_value())
    CaptureWriter(reader, CaptureRepository(database)).run(standard_input())
    database.dispose()


if __name__ == "__main__":
    main()
