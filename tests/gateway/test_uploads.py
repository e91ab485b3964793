"""/v1/uploads by the openai SDK: parts become a file, whoever sends them, in whatever order and however often."""

import asyncio
import hashlib
import json
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from sqlalchemy import text

from store.database import Database
from tests.gateway_process import GatewayProcess

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]}
FILE = b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(12))
KIND = {"filename": "train.jsonl", "purpose": "fine-tune", "mime_type": "text/jsonl"}


def sdk(gateway: GatewayProcess, secret: str | None = None) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=gateway.base_url, api_key=secret or gateway.new_key().secret, max_retries=0)


def left_in_store(gateway: GatewayProcess, upload_id: str) -> bool:
    return (Path(gateway.settings["FLYWHEEL_ARTIFACTS_URL"].removeprefix("file://")) / "uploads" / upload_id).exists()


async def add(client: AsyncOpenAI, upload_id: str, *pieces: bytes) -> list[str]:
    return [(await client.uploads.parts.create(upload_id, data=piece)).id for piece in pieces]


async def test_parts_become_a_file_in_the_order_of_their_ids(gateway: GatewayProcess):
    client = sdk(gateway)
    upload = await client.uploads.create(bytes=len(FILE), **KIND)
    last, _lost, first = await add(client, upload.id, FILE[100:], FILE[:100], FILE[:100])
    assert left_in_store(gateway, upload.id)
    done = await client.uploads.complete(upload.id, part_ids=[first, last], md5=hashlib.md5(FILE).hexdigest())

    assert (upload.status, upload.object, upload.expires_at - upload.created_at) == ("pending", "upload", 3600)
    assert (done.status, done.file.bytes, done.file.filename) == ("completed", len(FILE), "train.jsonl")
    assert (await client.files.content(done.file.id)).content == FILE
    assert (await client.files.retrieve(done.file.id)) == done.file
    assert not left_in_store(gateway, upload.id)


async def test_the_sdks_own_helper_uploads_in_chunks(gateway: GatewayProcess, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(FILE)
    client = sdk(gateway)
    done = await client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=200, md5=hashlib.md5(FILE).hexdigest()
    )

    assert (done.status, done.file.filename) == ("completed", "rows.jsonl")
    assert (await client.files.content(done.file.id)).content == FILE


async def test_to_complete_again_tells_the_same_file_and_it_can_be_trained_on(gateway: GatewayProcess):
    client = sdk(gateway)
    upload = await client.uploads.create(bytes=len(FILE), **KIND)
    parts = await add(client, upload.id, FILE)
    ends = await asyncio.gather(
        *(client.uploads.complete(upload.id, part_ids=parts) for _ in range(4)), return_exceptions=True
    )
    again = await client.uploads.complete(upload.id, part_ids=parts)

    files = {end.file.id for end in ends if not isinstance(end, Exception)}
    assert files == {again.file.id}
    assert [file.id async for file in client.files.list()] == [again.file.id]


@pytest.mark.parametrize(
    ("pieces", "chosen", "options", "param"),
    [
        ([FILE], ["part_none"], {}, "part_ids"),
        ([FILE[:-1]], [0], {}, "part_ids"),
        ([FILE[:50], FILE[50:]], [1, 0], {"md5": hashlib.md5(FILE).hexdigest()}, "md5"),
        ([FILE], [0], {"md5": "abc"}, "md5"),
        ([FILE[:50], FILE[50:]], [1, 0], {}, "file"),
    ],
    ids=["unknown part", "bytes missing", "other md5", "no md5", "not a training file"],
)
async def test_what_is_not_the_announced_file_is_refused_and_may_be_put_right(
    gateway: GatewayProcess, pieces: list[bytes], chosen: list, options: dict, param: str
):
    client = sdk(gateway)
    upload = await client.uploads.create(bytes=len(FILE), **KIND)
    parts = await add(client, upload.id, *pieces)
    ids = [parts[at] if isinstance(at, int) else at for at in chosen]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.uploads.complete(upload.id, part_ids=ids, **options)
    done = await client.uploads.complete(upload.id, part_ids=await add(client, upload.id, FILE))

    assert refused.value.param == param
    assert done.status == "completed"


async def test_an_upload_that_has_ended_takes_no_parts_and_no_other_end(gateway: GatewayProcess):
    client = sdk(gateway)
    cancelled = await client.uploads.create(bytes=len(FILE), **KIND)
    parts = await add(client, cancelled.id, FILE)
    assert (await client.uploads.cancel(cancelled.id)).status == "cancelled"
    assert (await client.uploads.cancel(cancelled.id)).status == "cancelled"
    for attempt in (add(client, cancelled.id, FILE), client.uploads.complete(cancelled.id, part_ids=parts)):
        with pytest.raises(openai.ConflictError):
            await attempt
    completed = await client.uploads.create(bytes=len(FILE), **KIND)
    await client.uploads.complete(completed.id, part_ids=await add(client, completed.id, FILE))
    with pytest.raises(openai.ConflictError):
        await client.uploads.cancel(completed.id)

    assert not left_in_store(gateway, cancelled.id)


async def test_after_an_hour_an_upload_is_over(gateway: GatewayProcess):
    client = sdk(gateway)
    upload = await client.uploads.create(bytes=len(FILE), **KIND)
    parts = await add(client, upload.id, FILE)
    _let_expire(gateway.database, upload.id)
    for attempt in (add(client, upload.id, FILE), client.uploads.complete(upload.id, part_ids=parts)):
        with pytest.raises(openai.ConflictError) as refused:
            await attempt
        assert "expired" in refused.value.message


async def test_another_tenants_upload_does_not_exist(gateway: GatewayProcess):
    upload = await sdk(gateway).uploads.create(bytes=len(FILE), **KIND)
    other = sdk(gateway)
    for attempt in (
        add(other, upload.id, FILE),
        other.uploads.complete(upload.id, part_ids=["part_a"]),
        other.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__MAX_UPLOAD_BYTES": "5000"}], indirect=True)
async def test_uploads_are_bounded(gateway: GatewayProcess):
    client = sdk(gateway)
    with pytest.raises(openai.BadRequestError) as too_large:
        await client.uploads.create(bytes=5001, **KIND)
    upload = await client.uploads.create(bytes=3000, **KIND)
    await add(client, upload.id, b"x" * 3000, b"x" * 2999)
    with pytest.raises(openai.BadRequestError) as too_much:
        await add(client, upload.id, b"xx")
    with pytest.raises(openai.BadRequestError) as empty:
        await add(client, upload.id, b"")

    assert [refused.value.param for refused in (too_large, too_much, empty)] == ["bytes", "data", "data"]


async def test_a_part_may_be_longer_than_other_bodies_but_has_a_bound(gateway: GatewayProcess):
    client = sdk(gateway)
    upload = await client.uploads.create(bytes=400 << 20, **KIND)
    assert len(await add(client, upload.id, bytes(5 << 20))) == 1
    with pytest.raises(openai.APIStatusError) as refused:
        await add(client, upload.id, bytes(65 << 20))
    await client.uploads.cancel(upload.id)

    assert refused.value.status_code == 413


def _let_expire(database: Database, upload_id: str) -> None:
    with database.session() as session:
        session.execute(text("UPDATE uploads SET expires_at = 1 WHERE id = :id"), {"id": upload_id})
