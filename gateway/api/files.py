"""/v1/files: training files. A file is checked before it is kept, so that a job never starts on a broken one."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from contracts.datasets import read_rows
from contracts.errors import NotFound
from contracts.files import FilePurpose, StoredFile
from contracts.identifiers import new_id
from gateway.api.access import JobsKey
from gateway.api.paging import After, Limit, Page
from store.artifacts import CHUNK_BYTES, ArtifactStore
from store.files import FileRepository

router = APIRouter(prefix="/v1/files", tags=["Files"])
MAX_FILENAME_LETTERS = 255


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: FilePurpose
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, file: StoredFile) -> "FileObject":
        return cls.model_validate(file, from_attributes=True)


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class FileService:
    """Synchronous; the routes call it in threads."""

    def __init__(self, files: FileRepository, artifacts: ArtifactStore) -> None:
        self._files = files
        self._artifacts = artifacts

    def add(self, content: BinaryIO, *, tenant: str, filename: str, purpose: FilePurpose) -> StoredFile:
        """Raises InvalidTrainingFile that names the row."""
        _, rows = read_rows(content, filename=filename)
        for _ in rows:
            pass
        content.seek(0)
        digest = hashlib.sha256()
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
        length = content.tell()
        content.seek(0)
        file_id = new_id("file")
        file = StoredFile(
            id=file_id,
            tenant=tenant,
            filename=filename[-MAX_FILENAME_LETTERS:],
            purpose=purpose,
            bytes=length,
            digest=f"sha256:{digest.hexdigest()}",
            artifact=f"files/{file_id}",
            created_at=int(time.time()),
        )
        self._artifacts.write(file.artifact, content)
        self._files.add(file)
        return file

    def page(self, *, tenant: str, purpose: FilePurpose | None, after: str | None, limit: int) -> list[StoredFile]:
        return self._files.page(tenant=tenant, purpose=purpose, after=after, limit=limit)

    def require(self, file_id: str, *, tenant: str) -> StoredFile:
        file = self._files.get(file_id, tenant=tenant)
        if file is None:
            raise _no_such_file(file_id)
        return file

    def content(self, file: StoredFile) -> Iterator[bytes]:
        return self._artifacts.read(file.artifact)

    def delete(self, file_id: str, *, tenant: str) -> None:
        file = self._files.delete(file_id, tenant=tenant)
        if file is None:
            raise _no_such_file(file_id)
        self._artifacts.delete(file.artifact)


def _no_such_file(file_id: str) -> NotFound:
    return NotFound(f"No such file: `{file_id}`.", param="file_id")


def _service(request: Request) -> FileService:
    service: FileService = request.app.state.file_service
    return service


Service = Annotated[FileService, Depends(_service)]


@router.post("", summary="Upload a training file: JSON Lines of one kind of rows, or plain text (`.txt`).")
async def create_file(
    key: JobsKey, service: Service, file: UploadFile, purpose: Annotated[FilePurpose, Form()]
) -> FileObject:
    stored = await asyncio.to_thread(
        service.add, file.file, tenant=key.tenant, filename=file.filename or "upload", purpose=purpose
    )
    return FileObject.of(stored)


@router.get("", summary="List files, newest first.")
async def list_files(
    key: JobsKey, service: Service, purpose: FilePurpose | None = None, after: After = None, limit: Limit = 100
) -> Page[FileObject]:
    files = await asyncio.to_thread(service.page, tenant=key.tenant, purpose=purpose, after=after, limit=limit + 1)
    return Page.of([FileObject.of(file) for file in files], limit)


@router.get("/{file_id}", summary="Retrieve a file's description.")
async def retrieve_file(file_id: str, key: JobsKey, service: Service) -> FileObject:
    return FileObject.of(await asyncio.to_thread(service.require, file_id, tenant=key.tenant))


@router.get("/{file_id}/content", summary="Retrieve a file's content.", response_class=StreamingResponse)
async def retrieve_file_content(file_id: str, key: JobsKey, service: Service) -> StreamingResponse:
    file = await asyncio.to_thread(service.require, file_id, tenant=key.tenant)
    return StreamingResponse(service.content(file), media_type="application/jsonl")


@router.delete("/{file_id}", summary="Delete a file.")
async def delete_file(file_id: str, key: JobsKey, service: Service) -> FileDeleted:
    await asyncio.to_thread(service.delete, file_id, tenant=key.tenant)
    return FileDeleted(id=file_id)
