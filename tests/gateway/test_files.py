"""/v1/files: what is uploaded is checked, kept whole, and seen by its tenant only."""

import json

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway_process import GatewayProcess

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]}


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


async def upload(client: httpx.AsyncClient, content: bytes, purpose: str = "fine-tune") -> httpx.Response:
    return await client.post("/v1/files", files={"file": ("train.jsonl", content)}, data={"purpose": purpose})


async def test_a_file_comes_back_as_it_was(gateway: GatewayProcess):
    content = jsonl(*[ROW] * 12)
    async with gateway.client() as client:
        created = (await upload(client, content)).json()
        described = (await client.get(f"/v1/files/{created['id']}")).json()
        listed = (await client.get("/v1/files")).json()
        read = await client.get(f"/v1/files/{created['id']}/content")
        deleted = (await client.delete(f"/v1/files/{created['id']}")).json()
        gone = await client.get(f"/v1/files/{created['id']}")

    assert described == created
    assert (created["object"], created["bytes"], created["filename"]) == ("file", len(content), "train.jsonl")
    assert [file["id"] for file in listed["data"]] == [created["id"]]
    assert read.content == content
    assert deleted == {"id": created["id"], "object": "file", "deleted": True}
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_lists_are_paged(gateway: GatewayProcess):
    async with gateway.client() as client:
        ids = [(await upload(client, jsonl(*[ROW] * 10))).json()["id"] for _ in range(5)]
        first = (await client.get("/v1/files", params={"limit": 2})).json()
        rest = (await client.get("/v1/files", params={"limit": 10, "after": first["last_id"]})).json()

    assert (len(first["data"]), first["has_more"]) == (2, True)
    assert rest["has_more"] is False
    assert {file["id"] for file in first["data"] + rest["data"]} == set(ids)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (jsonl(*[ROW] * 4) + b"{broken\n" + jsonl(*[ROW] * 8), "Row 5"),
        (jsonl(*[ROW] * 11, {"messages": [{"role": "user", "content": "Hi"}]}), "Row 12"),
        (jsonl(*[ROW] * 2, {"messages": [{"role": "king", "content": "Hi"}]}), "Row 3"),
        (jsonl({"question": "a", "answer": "b"}), "Row 1"),
        (b"\xff\xfe\x00", "Row 1"),
        (jsonl(ROW), "at least 10"),
        (b"", "0 examples"),
    ],
)
async def test_a_broken_file_is_refused_and_the_row_is_named(gateway: GatewayProcess, content: bytes, named: str):
    async with gateway.client() as client:
        refused = await upload(client, content)
        listed = (await client.get("/v1/files")).json()["data"]

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_training_file")
    assert named in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"] == "file"
    assert listed == []


async def test_missing_or_wrong_fields_are_named(gateway: GatewayProcess):
    async with gateway.client() as client:
        no_purpose = await client.post("/v1/files", files={"file": ("a.jsonl", jsonl(ROW))})
        no_file = await client.post("/v1/files", data={"purpose": "fine-tune"})
        wrong = await upload(client, jsonl(*[ROW] * 10), purpose="world-domination")

    assert [answer.status_code for answer in (no_purpose, no_file, wrong)] == [400, 400, 400]
    assert [answer.json()["error"]["param"] for answer in (no_purpose, no_file, wrong)] == [
        "purpose",
        "file",
        "purpose",
    ]


async def test_another_tenants_file_does_not_exist(gateway: GatewayProcess):
    async with gateway.client() as owner, gateway.client() as other:
        file_id = (await upload(owner, jsonl(*[ROW] * 10))).json()["id"]
        answers = [
            await other.get(f"/v1/files/{file_id}"),
            await other.get(f"/v1/files/{file_id}/content"),
            await other.delete(f"/v1/files/{file_id}"),
        ]
        still_there = await owner.get(f"/v1/files/{file_id}")

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert still_there.status_code == 200


@pytest.mark.parametrize("gateway", [{"FLYWHEEL_GATEWAY__MAX_UPLOAD_BYTES": "5000"}], indirect=True)
async def test_a_file_over_the_limit_is_refused(gateway: GatewayProcess):
    async with gateway.client() as client:
        answer = await upload(client, jsonl(*[ROW] * 500))

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_the_sdk_lists_all_files_in_either_order_and_by_purpose(gateway: GatewayProcess):
    client = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.new_key().secret, max_retries=0)
    rows = jsonl(*[ROW] * 10)
    made = [(await client.files.create(file=("a.jsonl", rows), purpose="fine-tune")).id for _ in range(5)]
    newest = [file.id async for file in client.files.list(limit=2)]
    oldest = [file.id async for file in client.files.list(limit=2, order="asc", purpose="fine-tune")]
    page = await client.files.list(limit=3, order="asc")

    assert set(newest) == set(made)
    assert newest == oldest[::-1]
    assert page.has_more
    assert [file async for file in client.files.list(purpose="batch")] == []
    with pytest.raises(openai.BadRequestError) as refused:
        await client.files.list(after="file-none")
    assert refused.value.param == "after"


async def test_a_content_tells_its_length_and_name(gateway: GatewayProcess):
    content = jsonl(*[ROW] * 12)
    async with gateway.client() as client:
        made = await client.post(
            "/v1/files", files={"file": ("für alle.jsonl", content)}, data={"purpose": "fine-tune"}
        )
        read = await client.get(f"/v1/files/{made.json()['id']}/content")

    assert read.headers["content-length"] == str(len(content))
    assert read.headers["content-disposition"] == "attachment; filename*=UTF-8''f%C3%BCr%20alle.jsonl"
