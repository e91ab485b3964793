"""/v1/fine_tuning/jobs/{id}: what can be done with a job that exists, and what it tells."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from kombu.exceptions import OperationalError
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.errors import InvalidRequest, NotFound
from contracts.identifiers import checkpoint_model_name
from contracts.invalidation import Invalidation
from contracts.jobs import Job, JobCheckpoint, JobEvent
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.fine_tuning import FINE_TUNING, JobObject
from gateway.api.paging import After, Limit, Page
from gateway.job_watch import JobWatch
from store.job_checkpoints import CheckpointRepository
from store.job_queue import JobQueue
from store.jobs import JobRepository
from store.news import publish_news

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}", tags=["Fine-tuning"])
log = structlog.get_logger(__name__)

SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> "EventObject":
        return cls.model_validate(event, from_attributes=True)


class CheckpointObject(BaseModel):
    """The state of a training after a step. The name is the one that OpenAI would give it; no engine serves it."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]

    @classmethod
    def of(cls, checkpoint: JobCheckpoint, job: Job) -> "CheckpointObject":
        spec = job.spec
        return cls(
            id=checkpoint.id,
            created_at=checkpoint.created_at,
            fine_tuning_job_id=job.id,
            fine_tuned_model_checkpoint=checkpoint_model_name(
                spec["base_model"], job.tenant, spec.get("suffix"), job.id, checkpoint.step
            ),
            step_number=checkpoint.step,
            metrics=checkpoint.metrics,
        )


class JobLifecycle:
    """A tenant's jobs after their creation. Raises NotFound for those of others."""

    def __init__(
        self, jobs: JobRepository, checkpoints: CheckpointRepository, queue: JobQueue, watch: JobWatch, redis: Redis
    ) -> None:
        self._jobs, self._checkpoints, self._queue, self._watch, self._redis = jobs, checkpoints, queue, watch, redis

    async def cancel(self, job_id: str, key: ApiKey) -> Job:
        job = _found(await asyncio.to_thread(self._jobs.cancel, job_id, tenant=key.tenant), job_id)
        if job.status != "cancelled":
            raise _has_ended(job)
        await self._announce(job)
        return job

    async def pause(self, job_id: str, key: ApiKey) -> Job:
        """At once for a job that waits. One that runs stops after its step, once its state is saved."""
        job = _found(await asyncio.to_thread(self._jobs.pause, job_id, tenant=key.tenant), job_id)
        if job.status != "paused":
            raise _has_ended(job)
        await self._announce(job)
        return job

    async def resume(self, job_id: str, key: ApiKey) -> Job:
        before = await asyncio.to_thread(self.require, job_id, key)
        if before.status != "paused":
            message = f"Only a paused job can be resumed; this one is {before.status}."
            raise InvalidRequest(message, param="fine_tuning_job_id")
        job = _found(await asyncio.to_thread(self._resume, job_id, key), job_id)
        await self._announce(job)
        return job

    def _resume(self, job_id: str, key: ApiKey) -> Job | None:
        job = self._jobs.resume(job_id, tenant=key.tenant)
        if job is not None and job.status == "queued":
            try:
                self._queue.enqueue(job.id, queue=job.queue)
            except OperationalError:
                log.warning("resumed job not enqueued; a worker's sweeper will", job=job.id)
        return job

    def require(self, job_id: str, key: ApiKey) -> Job:
        job = self._jobs.get(job_id)
        return _found(None if job is None or job.tenant != key.tenant else job, job_id)

    def require_fine_tuning(self, job_id: str, key: ApiKey) -> Job:
        """Jobs of other families have routes of their own; only their events are told here too. Raises NotFound."""
        job = self.require(job_id, key)
        return _found(job if job.family.startswith(FINE_TUNING) else None, job_id)

    def checkpoints(self, job_id: str, key: ApiKey, *, after: str | None, limit: int) -> list[CheckpointObject]:
        job = self.require_fine_tuning(job_id, key)
        found = self._checkpoints.page(job_id, after=after, limit=limit)
        return [CheckpointObject.of(checkpoint, job) for checkpoint in found]

    def events(self, job_id: str, key: ApiKey, *, after: str | None, limit: int) -> list[EventObject]:
        self.require(job_id, key)
        return [EventObject.of(event) for event in self._jobs.events(job_id, after=after, limit=limit)]

    async def stream(self, job_id: str, key: ApiKey, *, after: str | None) -> AsyncIterator[bytes]:
        """Server-sent events. All that can be refused is refused before the first one."""
        await asyncio.to_thread(self.require, job_id, key)
        start = 0 if after is None else await asyncio.to_thread(self._jobs.sequence_of, job_id, after)
        if start is None:
            raise InvalidRequest(f"The job has no event `{after}`.", param="after")
        return self._server_sent(job_id, start)

    async def _server_sent(self, job_id: str, start: int) -> AsyncIterator[bytes]:
        async with aclosing(self._watch.follow(job_id, after=start)) as events:
            async for event in events:
                yield b": waiting\n\n" if event is None else _as_data(EventObject.of(event).model_dump_json())
        if not self._watch.is_closed:
            yield _as_data("[DONE]")

    async def _announce(self, job: Job) -> None:
        try:
            await publish_news(self._redis, Invalidation(kind="job", id=job.id))
        except RedisError as error:
            log.warning("news of a job not published", reason=type(error).__name__)


def _as_data(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise NotFound(f"No such fine-tuning job: `{job_id}`.", param="fine_tuning_job_id")
    return job


def _has_ended(job: Job) -> InvalidRequest:
    return InvalidRequest(f"The job has already ended: it {job.status}.", param="fine_tuning_job_id")


def _lifecycle(request: Request) -> JobLifecycle:
    service: JobLifecycle = request.app.state.job_lifecycle
    return service


Lifecycle = Annotated[JobLifecycle, Depends(_lifecycle)]
Stream = Annotated[bool, Query(description="Stream the events as they come, oldest first, until the job has ended.")]


@router.post("/cancel", summary="Cancel a fine-tuning job.")
async def cancel_job(job_id: str, key: JobsKey, jobs: Lifecycle) -> JobObject:
    await asyncio.to_thread(jobs.require_fine_tuning, job_id, key)
    return JobObject.of(await jobs.cancel(job_id, key))


@router.post("/pause", summary="Pause a fine-tuning job; it keeps what it has learnt.")
async def pause_job(job_id: str, key: JobsKey, jobs: Lifecycle) -> JobObject:
    await asyncio.to_thread(jobs.require_fine_tuning, job_id, key)
    return JobObject.of(await jobs.pause(job_id, key))


@router.post("/resume", summary="Resume a paused fine-tuning job.")
async def resume_job(job_id: str, key: JobsKey, jobs: Lifecycle) -> JobObject:
    await asyncio.to_thread(jobs.require_fine_tuning, job_id, key)
    return JobObject.of(await jobs.resume(job_id, key))


@router.get("/checkpoints", summary="List a job's checkpoints, newest first.")
async def list_checkpoints(
    job_id: str, key: JobsKey, jobs: Lifecycle, after: After = None, limit: Limit = 10
) -> Page[CheckpointObject]:
    found = await asyncio.to_thread(jobs.checkpoints, job_id, key, after=after, limit=limit + 1)
    return Page.of(found, limit)


@router.get(
    "/events",
    summary="List a job's events, newest first, or stream them: messages and metrics such as the loss.",
    response_model=Page[EventObject],
)
async def list_job_events(
    job_id: str, key: JobsKey, jobs: Lifecycle, after: After = None, limit: Limit = 20, stream: Stream = False
) -> Page[EventObject] | StreamingResponse:
    if stream:
        events = await jobs.stream(job_id, key, after=after)
        return StreamingResponse(events, media_type="text/event-stream", headers=SSE_HEADERS)
    found = await asyncio.to_thread(jobs.events, job_id, key, after=after, limit=limit + 1)
    return Page.of(found, limit)
