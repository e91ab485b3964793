"""Captures and feedback do not outlive the retention time."""

import asyncio
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store.captures import CaptureRepository

PURGE_EVERY_S = 600.0
SECONDS_PER_DAY = 86_400


class Retention:
    """Deletes what is too old, at the start and every ten minutes; several gateways may do so at once."""

    def __init__(self, captures: CaptureRepository, *, retention_days: float) -> None:
        self._captures = captures
        self._retention_s = retention_days * SECONDS_PER_DAY
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                purged = await asyncio.to_thread(self._captures.purge, int(time.time() - self._retention_s))
                if purged:
                    self._log.info("captures purged", captures=purged)
            except SQLAlchemyError as error:
                self._log.warning("captures not purged", reason=type(error).__name__)
            await asyncio.sleep(PURGE_EVERY_S)
