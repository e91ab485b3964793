"""Gateways whose artifacts are in S3, while it is there and while it is away."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contracts.identifiers import new_id
from tests.gateway_process import GatewayProcess
from tests.s3_server import BUCKET, S3Server

ROWS = b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n' * 12


@pytest.fixture
def client(own_s3: S3Server, redis_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    settings = {"FLYWHEEL_ARTIFACTS_URL": f"s3://{BUCKET}/{new_id('test')}"}
    gateway = GatewayProcess(redis_url=redis_url, folder=tmp_path / "gateway", settings=settings)
    headers = {"authorization": f"Bearer {gateway.new_key().secret}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, timeout=60) as client:
        yield client
    gateway.stop()


def upload(client: httpx.Client) -> httpx.Response:
    return client.post("/files", files={"file": ("rows.jsonl", ROWS)}, data={"purpose": "fine-tune"})


def test_files_are_kept_in_the_bucket(client: httpx.Client) -> None:
    file_id = upload(client).raise_for_status().json()["id"]

    assert client.get(f"/files/{file_id}/content").content == ROWS
    assert client.delete(f"/files/{file_id}").json()["deleted"]
    assert client.get(f"/files/{file_id}/content").status_code == 404


def test_while_the_bucket_is_away_requests_are_refused_and_nothing_is_forgotten(
    client: httpx.Client, own_s3: S3Server
) -> None:
    file_id = upload(client).raise_for_status().json()["id"]
    own_s3.stop()

    for refused in (upload(client), client.get(f"/files/{file_id}/content"), client.delete(f"/files/{file_id}")):
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        error = refused.json()["error"]
        assert error["code"] == "service_unavailable"
        assert own_s3.url.removeprefix("http://") not in refused.text
    assert [file["id"] for file in client.get("/files").json()["data"]] == [file_id]
