"""For operators: health and metrics. These routes ask for no key, so slowapi limits them by address."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError
from slowapi import Limiter
from sqlalchemy.exc import SQLAlchemyError

from gateway.drain import Drain
from gateway.metrics import Metrics
from gateway.routing.fleet import Fleet
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.job_counts import JobCounts

PROBE_TIMEOUT_S = 2.0


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Ready means that requests can be authenticated and that the gateway is not about to stop. Without Redis it
    serves on, without limits."""

    status: Literal["ready", "not_ready"]
    database: Literal["up", "down"]
    redis: Literal["up", "down"]
    engines: int


class Probes:
    def __init__(self, database: Database, redis: Redis, fleet: Fleet, drain: Drain) -> None:
        self._drain = drain
        self._database = database
        self._redis = redis
        self._fleet = fleet

    async def readiness(self) -> Readiness:
        database, redis = await asyncio.gather(self._database_state(), self._redis_state())
        return Readiness(
            status="ready" if database == "up" and not self._drain.began else "not_ready",
            database=database,
            redis=redis,
            engines=self._fleet.size(),
        )

    async def _database_state(self) -> Literal["up", "down"]:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await asyncio.to_thread(self._database.ping)
        except (SQLAlchemyError, TimeoutError):
            return "down"
        return "up"

    async def _redis_state(self) -> Literal["up", "down"]:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._redis.ping()
        except (RedisError, TimeoutError):
            return "down"
        return "up"


class Exposition:
    """The metrics as Prometheus reads them. Two queries, for jobs and schedules; none of them without the database.

    In OpenMetrics' form where the scraper takes it, which alone has exemplars.
    """

    def __init__(self, metrics: Metrics, jobs: JobCounts, schedules: EvalScheduleRepository) -> None:
        self._metrics = metrics
        self._jobs, self._schedules = jobs, schedules

    async def read(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type, of those that the header `accept` names."""
        jobs, schedules = await asyncio.gather(
            _counted(self._jobs.by_queue_and_status), _counted(self._schedules.counts)
        )
        self._metrics.jobs.clear()
        for (queue, state), count in jobs.items():
            self._metrics.jobs.labels(queue, state).set(count)
        self._metrics.eval_schedules.clear()
        for (model, state), count in schedules.items():
            self._metrics.eval_schedules.labels(self._metrics.label_of(model), state).inc(count)
        encode, media_type = choose_encoder(accept)
        return encode(self._metrics.registry), media_type


async def _counted(count: Callable[[], Mapping[tuple[str, str], int]]) -> Mapping[tuple[str, str], int]:
    """Nothing while the database is away."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await asyncio.to_thread(count)
    except (SQLAlchemyError, TimeoutError):
        return {}


def create_operations_router(
    limiter: Limiter, requests_per_minute: int, probes: Probes, exposition: Exposition
) -> APIRouter:
    router = APIRouter(tags=["Operations"])
    limited = limiter.shared_limit(f"{requests_per_minute}/minute", scope="operations")

    @router.get("/health/live", summary="Whether the process runs.")
    @limited
    async def live(request: Request) -> Health:
        return Health()

    @router.get("/health/ready", summary="Whether the gateway can answer.")
    @limited
    async def ready(request: Request, response: Response) -> Readiness:
        readiness = await probes.readiness()
        response.status_code = 200 if readiness.status == "ready" else 503
        return readiness

    @router.get("/metrics", summary="Prometheus metrics.", response_class=Response)
    @limited
    async def expose_metrics(request: Request) -> Response:
        content, media_type = await exposition.read(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return router
