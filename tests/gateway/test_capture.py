"""What is captured of whom, what is written of it, and how it is erased."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from contracts.captures import Capture, Feedback
from contracts.identifiers import new_id
from store.captures import CaptureRepository
from store.feedback import FeedbackRepository
from tests.conftest import LeaseGiver
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess

CAPTURES = "/v1/flywheel/captures"
QUESTION = "Write to anna@example.com or +49 30 901820 about card 4111 1111 1111 1111."
REDACTED = "Write to [EMAIL] or [PHONE] about card [CARD]."
DAY_S = 86_400
NARROW = {"FLYWHEEL_CAPTURE__MAX_BYTES": "4000", "FLYWHEEL_CAPTURE__QUEUE_BYTES": "20000"}


async def captures(client: httpx.AsyncClient, count: int, **wanted: Any) -> list[dict[str, Any]]:
    """Captures, newest first, once there are so many: they are written up to a second after their answers."""
    found: list[dict[str, Any]] = []
    for _ in range(600):
        found = (await client.get(CAPTURES, params=wanted)).json()["data"]
        if len(found) >= count:
            break
        await asyncio.sleep(0.05)
    assert len(found) == count
    return found


def openai_client(gateway: GatewayProcess, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=secret, max_retries=0)


def databases_of(gateway: GatewayProcess) -> bytes:
    """Every byte of the database's files."""
    path = Path(gateway.settings["FLYWHEEL_DATABASE_URL"].removeprefix("sqlite:///"))
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(FULL)")
    return b"".join(file.read_bytes() for file in path.parent.glob("flywheel.db*"))


async def test_whole_and_streamed_answers_are_captured_redacted_and_nothing_else_is_kept(serving: Serving):
    key = serving.gateway.new_key(capture=1.0)
    client = openai_client(serving.gateway, key.secret)
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": QUESTION}]
    whole = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, user="anna")
    stream = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, stream=True)
    chunks = [chunk async for chunk in stream]
    prompted = await client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=8)
    async with serving.gateway.client(key.secret) as http:
        found = {capture["response_id"]: capture for capture in await captures(http, 3)}

    of_whole, of_stream, of_prompt = (found[answer.id] for answer in (whole, chunks[0], prompted))
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": REDACTED}]
    assert of_whole["messages"] == of_stream["messages"] == asked
    assert of_prompt["messages"] == asked[1:]
    assert of_whole["answer"] == whole.choices[0].message.content
    assert of_stream["answer"] == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert of_whole["redacted"] == {"email": 1, "phone": 1, "card": 1}
    assert (of_whole["model"], of_whole["key"], of_whole["finish_reason"]) == (MODEL, key.key.id, "length")
    assert (of_whole["completion_tokens"], of_stream["completion_tokens"]) == (8, 8)
    assert of_stream["duration_s"] >= of_stream["first_token_s"] > 0
    kept, log = databases_of(serving.gateway), serving.gateway.process.log.read_bytes()
    assert not [secret for secret in (b"anna@", b"30 901820", b"4111 1111") if secret in kept + log]


async def test_what_did_not_opt_in_or_asks_not_to_be_stored_is_not_captured(serving: Serving):
    gateway = serving.gateway
    tenant = gateway.new_key().key.tenant
    opted_in, other = gateway.new_key(tenant=tenant, capture=1.0), gateway.new_key(tenant=tenant)
    async with gateway.client(other.secret) as client:
        await client.post(CHAT, json=chat_body())
    async with gateway.client(opted_in.secret) as client:
        await client.post(CHAT, json=chat_body(store=False))
        await client.post(CHAT, json=chat_body(), headers={"cache-control": "no-store"})
        await client.post(CHAT, json=chat_body(model="unknown"))
        first = await client.post(CHAT, json=chat_body(temperature=0))
        again = await client.post(CHAT, json=chat_body(temperature=0))
        found = await captures(client, 1)
        await asyncio.sleep(1)
        found = await captures(client, 1)

    assert again.headers["x-flywheel-cache"] in ("hit", "collapsed")
    assert found[0]["response_id"] == first.json()["id"]


async def test_a_share_of_the_answers_is_captured(serving: Serving):
    key = serving.gateway.new_key(capture=0.5, requests_per_minute=10_000)
    async with serving.gateway.client(key.secret) as client:
        answers = [await client.post(CHAT, json=chat_body(f"number {number}")) for number in range(60)]
        await asyncio.sleep(2)
        found = (await client.get(CAPTURES)).json()["data"]

    assert all(answer.status_code == 200 for answer in answers)
    assert 12 <= len(found) <= 48  # less than one in a million fails by chance


async def test_an_answer_that_breaks_off_is_not_captured(serving: Serving):
    key = serving.gateway.new_key(capture=1.0)
    serving.engine.behaviour(error_after_chunks=2)
    async with serving.gateway.client(key.secret) as client:
        broken = await client.post(CHAT, json=chat_body("broken", stream=True, n=2))
        serving.engine.reset()
        await client.post(CHAT, json=chat_body("whole"))
        found = await captures(client, 1)

    assert '"error"' in broken.text
    assert found[0]["messages"][-1]["content"] == "whole"


@pytest.mark.parametrize("gateway", [NARROW], indirect=True)
async def test_what_is_too_long_is_not_captured_and_counted(serving: Serving):
    key = serving.gateway.new_key(capture=1.0)
    async with serving.gateway.client(key.secret) as client:
        await client.post(CHAT, json=chat_body("long " * 900))
        serving.engine.behaviour(tokens=400)
        await client.post(CHAT, json=chat_body("a long answer", max_tokens=400, stream=True))
        serving.engine.reset()
        await client.post(CHAT, json=chat_body("short"))
        found = await captures(client, 1)
        metrics = (await client.get("/metrics")).text

    assert found[0]["messages"][-1]["content"] == "short"
    assert 'flywheel_captures_total{result="too_long"} 2.0' in metrics


@pytest.mark.parametrize("gateway", [NARROW], indirect=True)
async def test_answers_wait_for_no_writer_and_what_finds_no_room_or_goes_down_with_it_is_counted(serving: Serving):
    key = serving.gateway.new_key(capture=1.0, requests_per_minute=100_000, tokens_per_minute=100_000_000)
    async with serving.gateway.client(key.secret) as client:
        await client.post(CHAT, json=chat_body("first"))
        await captures(client, 1)
        (writer,) = psutil.Process(serving.gateway.process.pid).children()
        writer.suspend()
        began_at = time.monotonic()
        for number in range(80):
            assert (await client.post(CHAT, json=chat_body(f"{number} " + "x" * 3000))).status_code == 200
        took_s = time.monotonic() - began_at
        dropped = (await client.get("/metrics")).text
        writer.kill()
        newest = ""
        for number in range(300):  # another one writes on
            await client.post(CHAT, json=chat_body(f"after {number}"))
            listed = (await client.get(CAPTURES, params={"limit": 1})).json()["data"]
            newest = listed[0]["messages"][0]["content"]
            if newest.startswith("after"):
                break
            await asyncio.sleep(0.1)
        lost = (await client.get("/metrics")).text

    assert took_s < 20
    assert 'flywheel_captures_total{result="dropped"}' in dropped
    assert newest.startswith("after")
    assert 'flywheel_captures_total{result="lost"}' in lost


async def test_a_gateway_that_stops_writes_what_it_has_and_one_that_starts_deletes_what_is_too_old(
    start_gateway, fake_engine, lease: LeaseGiver, redis_sync
):
    gateway = start_gateway()
    serving = Serving(gateway, fake_engine)
    lease(fake_engine, model=MODEL)
    serving.register(redis_sync, model_card())
    wait_until(lambda: serving.models().get(MODEL) == "live")
    key = gateway.new_key(capture=1.0)
    tenant = key.key.tenant
    async with gateway.client(key.secret) as client:
        await asyncio.gather(*(client.post(CHAT, json=chat_body(f"number {number}")) for number in range(20)))
    gateway.process.stop()
    rows, feedback = CaptureRepository(gateway.database), FeedbackRepository(gateway.database)
    wait_until(lambda: len(rows.page(tenant=tenant)) == 20)

    rows.erase(tenant=tenant)
    rows.add([old_capture(tenant, f"r{days}", days_ago=days) for days in (0, 1, 3, 5, 40)])
    for days in (1, 5):
        made = {"id": new_id("feedback"), "response_id": f"r{days}", "tenant": tenant, "key": "k", "model": MODEL}
        feedback.put(Feedback(**made, rating="up", tags=["t"], created_at=int(time.time() - days * DAY_S)))
    database_url = gateway.settings["FLYWHEEL_DATABASE_URL"]
    start_gateway(FLYWHEEL_DATABASE_URL=database_url, FLYWHEEL_CAPTURE__RETENTION_DAYS="2")
    wait_until(lambda: {judged.capture.response_id for judged in rows.page(tenant=tenant)} == {"r0", "r1"})
    assert feedback.ratings_of(MODEL, since=0) == (1, 0)


def old_capture(tenant: str, response_id: str, *, days_ago: float, **fields: object) -> Capture:
    defaults = {"key": "key_1", "model": MODEL, "route": CHAT, "messages": [], "answer": "a", "duration_s": 0.1}
    created_at = int(time.time() - days_ago * DAY_S)
    return Capture.model_validate(
        {"id": new_id("capture"), "tenant": tenant, "response_id": response_id, "created_at": created_at}
        | defaults
        | fields
    )


async def test_a_tenants_captures_are_erased_by_user_by_answer_or_all(serving: Serving):
    gateway = serving.gateway
    key, stranger = gateway.new_key(capture=1.0), gateway.new_key(capture=1.0)
    users = ("anna", "anna", "ben", "carl")
    async with gateway.client(key.secret) as client, gateway.client(stranger.secret) as other:
        ids = [(await client.post(CHAT, json=chat_body(user=user))).json()["id"] for user in users]
        await other.post(CHAT, json=chat_body(user="anna"))
        for response_id in ids:
            await client.post("/v1/feedback", json={"response_id": response_id, "correction": "Better."})
        await captures(client, 4)
        await captures(other, 1)
        listed = await captures(client, 2, user="anna")
        of_user = (await client.delete(CAPTURES, params={"user": "anna"})).json()
        of_answer = (await client.delete(CAPTURES, params={"response_id": ids[2]})).json()
        left = await captures(client, 1)
        rest = (await client.delete(CAPTURES)).json()
        gone = (await client.get(CAPTURES)).json()["data"]
        strangers = await captures(other, 1)

    assert {capture["response_id"] for capture in listed} == set(ids[:2])
    assert (of_user["deleted"], of_user["feedback_deleted"]) == (2, 2)
    assert (of_answer["deleted"], left[0]["response_id"]) == (1, ids[3])
    assert (rest["deleted"], gone, len(strangers)) == (1, [], 1)


async def test_captures_are_for_keys_of_scope_admin_or_jobs_and_erasing_for_admin(serving: Serving):
    gateway = serving.gateway
    statuses = {}
    for scope in ("inference", "jobs", "admin"):
        async with gateway.client(gateway.new_key(scopes=[scope]).secret) as client:
            statuses[scope] = [(await client.get(CAPTURES)).status_code, (await client.delete(CAPTURES)).status_code]
    assert statuses == {"inference": [403, 403], "jobs": [200, 403], "admin": [200, 200]}
