"""Parts do not outlive their upload, whatever happened to the gateway that should have dropped them."""

import io
import time
from pathlib import Path

import pytest

from contracts.files import UploadPart
from gateway.api.files import FileService
from gateway.api.uploads import CreateUpload, UploadService
from store.artifacts import ArtifactStore
from store.database import Database
from store.files import FileRepository
from store.uploads import UploadRepository

WANTED = CreateUpload(filename="a.jsonl", purpose="fine-tune", bytes=10, mime_type="text/jsonl")


@pytest.fixture
def uploads(database: Database) -> UploadRepository:
    return UploadRepository(database)


@pytest.fixture
def service(uploads: UploadRepository, database: Database, artifacts: ArtifactStore) -> UploadService:
    files = FileService(FileRepository(database), artifacts)
    return UploadService(uploads, files, artifacts, max_upload_bytes=1000)


def stored_parts(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("artifacts/uploads/*/*"))


def test_what_expired_or_ended_is_swept_and_what_is_pending_stays(
    service: UploadService, uploads: UploadRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expired, ended = (service.create(WANTED, tenant="acme").id for _ in range(2))
    for upload_id in (expired, ended):
        service.add_part(upload_id, io.BytesIO(b"12345"), tenant="acme")
    uploads.end(ended, "cancelled")
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    pending = service.create(WANTED, tenant="acme").id
    service.add_part(pending, io.BytesIO(b"12345"), tenant="acme")
    service.sweep()

    states = [uploads.get(upload_id, tenant="acme").status for upload_id in (expired, ended, pending)]
    assert states == ["expired", "cancelled", "pending"]
    assert [path.parent.name for path in stored_parts(tmp_path)] == [pending]
    assert uploads.ended_with_parts() == []


def test_a_part_that_comes_while_its_upload_ends_leaves_nothing(service: UploadService, uploads: UploadRepository):
    upload_id = service.create(WANTED, tenant="acme").id
    assert uploads.end(upload_id, "cancelled")

    assert not uploads.add_part(UploadPart(id="part_1", upload=upload_id, bytes=5, created_at=1))
    assert not uploads.end(upload_id, "expired")
    assert uploads.parts(upload_id) == {}
