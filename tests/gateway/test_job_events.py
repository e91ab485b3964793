"""Streams of a job's events, as watchers see them."""

import asyncio
import json
import signal
import time

import pytest
from redis import Redis
from sqlalchemy import event

from contracts.identifiers import new_id
from contracts.invalidation import Invalidation
from contracts.jobs import Job
from gateway.job_watch import JobWatch
from store import redis_names
from store.database import Database
from store.jobs import JobRepository
from tests.gateway_process import GatewayProcess

SOON_S = 3.0


@pytest.fixture
def tenant() -> str:
    return new_id("key")


@pytest.fixture
def jobs(gateway: GatewayProcess) -> JobRepository:
    return JobRepository(gateway.database)


@pytest.fixture
def job(jobs: JobRepository, tenant: str) -> Job:
    return jobs.create(family="finetune.f", tenant=tenant, spec={}, trace_context={})


@pytest.fixture
async def client(gateway: GatewayProcess, tenant: str):
    async with gateway.client(gateway.new_key(tenant=tenant).secret) as client:
        yield client


def tell(redis_url: str, job: Job) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="job", id=job.id).model_dump_json())


async def read(client, job: Job, seen: list[str], times: list[float], *, after: str | None = None) -> None:
    parameters = {"stream": "true"} | ({} if after is None else {"after": after})
    async with client.stream("GET", f"/v1/fine_tuning/jobs/{job.id}/events", params=parameters) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                seen.append(data if data == "[DONE]" else json.loads(data)["message"])
                times.append(time.monotonic())


async def until(condition) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_watcher_sees_what_was_and_what_comes_and_the_end(client, jobs: JobRepository, job: Job, redis_url):
    seen: list[str] = []
    times: list[float] = []
    watching = asyncio.create_task(read(client, job, seen, times))
    await until(lambda: seen == ["Created the job and queued it."])
    _, fence = jobs.acquire(job.id, lease_s=30)
    for step in range(3):
        jobs.add_event(job.id, fence, f"step {step}")
        told_at = time.monotonic()
        tell(redis_url, job)
        await until(lambda step=step: seen[-1] == f"step {step}")
        assert times[-1] - told_at < 0.5
    jobs.finish(job.id, fence, "succeeded", message="done")
    tell(redis_url, job)
    await asyncio.wait_for(watching, SOON_S)
    assert seen[1:] == ["step 0", "step 1", "step 2", "done", "[DONE]"]


async def test_a_watcher_goes_on_after_the_event_that_it_saw_last(client, jobs: JobRepository, job: Job):
    _, fence = jobs.acquire(job.id, lease_s=30)
    for step in range(450):
        jobs.add_event(job.id, fence, f"step {step}")
    jobs.finish(job.id, fence, "succeeded", message="done")
    cursor = jobs.events(job.id, limit=100)[-1]
    seen: list[str] = []
    await asyncio.wait_for(read(client, job, seen, [], after=cursor.id), SOON_S)
    assert seen == [*(f"step {step}" for step in range(352, 450)), "done", "[DONE]"]
    whole: list[str] = []
    await asyncio.wait_for(read(client, job, whole, []), SOON_S)
    assert len(whole) == 453
    unknown = await client.get(f"/v1/fine_tuning/jobs/{job.id}/events?stream=true&after=ftevent-none")
    assert unknown.json()["error"]["param"] == "after"


async def test_events_come_while_redis_tells_nothing(client, jobs: JobRepository, job: Job):
    seen: list[str] = []
    watching = asyncio.create_task(read(client, job, seen, []))
    await until(lambda: seen)
    jobs.cancel(job.id, tenant=job.tenant)
    await asyncio.wait_for(watching, 8)
    assert seen[-2:] == ["The job was cancelled.", "[DONE]"]


async def test_a_cancellation_is_seen_at_once(client, job: Job):
    seen: list[str] = []
    watching = asyncio.create_task(read(client, job, seen, []))
    await until(lambda: seen)
    await client.post(f"/v1/fine_tuning/jobs/{job.id}/pause")
    await until(lambda: seen[-1] == "The job was paused.")
    jobs_url = f"/v1/fine_tuning/jobs/{job.id}"
    began = time.monotonic()
    await client.get(f"{jobs_url}/events")
    watching.cancel()
    assert time.monotonic() - began < SOON_S


async def test_a_gateway_with_watchers_stops_soon(start_gateway):
    gateway = start_gateway()
    key = gateway.new_key()
    job = JobRepository(gateway.database).create(family="f", tenant=key.key.tenant, spec={}, trace_context={})
    async with gateway.client(key.secret) as client:
        seen: list[str] = []
        watching = asyncio.create_task(read(client, job, seen, []))
        await until(lambda: seen)
        assert await asyncio.to_thread(gateway.stop) != -signal.SIGKILL  # which comes after STOP_S
        await asyncio.wait_for(watching, SOON_S)
        assert "[DONE]" not in seen


async def test_many_watchers_cost_as_many_queries_as_one(database: Database):
    jobs = JobRepository(database)
    job = jobs.create(family="f", tenant="acme", spec={}, trace_context={})
    _, fence = jobs.acquire(job.id, lease_s=30)
    watch = JobWatch(jobs)
    seen: list[list[str]] = [[] for _ in range(100)]

    async def follow(told: list[str]) -> None:
        async for event_ in watch.follow(job.id, after=0):
            if event_ is not None:
                told.append(event_.message)

    watchers = [asyncio.create_task(follow(told)) for told in seen]
    await until(lambda: all(told for told in seen))
    await asyncio.sleep(0.2)
    statements: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    jobs.add_event(job.id, fence, "news")
    own = len(statements)
    watch.look_soon(job.id)
    await until(lambda: all(told[-1] == "news" for told in seen))
    assert len(statements) - own <= 2
    jobs.finish(job.id, fence, "succeeded", message="done")
    watch.look_soon(None)
    await asyncio.wait_for(asyncio.gather(*watchers), SOON_S)
    assert all(told[-1] == "done" for told in seen)
    assert watch._topics == {}
