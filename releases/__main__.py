"""`python -m releases`: one controller of releases. Any number of them may run."""

import asyncio
import signal

from contracts.settings import Settings
from releases.controller import Controller
from releases.evaluations import Evaluations
from store.database import Database
from store.feedback import FeedbackRepository
from store.job_queue import JobQueue, create_celery
from store.jobs import JobRepository
from store.models import ModelRepository
from store.redis_clients import async_redis
from store.releases import ReleaseRepository
from telemetry.logs import configure_logs

SERVICE = "flywheel-releases"
REDIS_TIMEOUT_S = 2.0


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = Database(settings.database_url)
    releases = ReleaseRepository(database)
    queue = JobQueue(create_celery(settings.broker_url))
    async with async_redis(
        settings.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    ) as redis:
        controller = Controller(
            releases=releases,
            evaluations=Evaluations(releases, JobRepository(database), queue),
            feedback=FeedbackRepository(database),
            models=ModelRepository(database),
            redis=redis,
            interval_s=settings.releases.interval_s,
        )
        await controller.run(stop)
    database.dispose()


if __name__ == "__main__":
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    asyncio.run(run(settings))
