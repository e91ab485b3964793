"""/v1/files: what to train and evaluate on. Files are checked before they are kept; no job starts on a broken one."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from contracts.datasets import read_rows
from contracts.errors import InvalidValue, NotFound
from contracts.eval_items import read_items
from contracts.files import FilePurpose, StoredFile
from contracts.identifiers import new_id
from gateway.api.access import JobsKey
from gateway.api.paging import After, Page
from store.artifacts import CHUNK_BYTES, ArtifactStore
from store.files import FileRepository, Order

router = APIRouter(prefix="/v1/files", tags=["Files"])
MAX_FILENAME_LETTERS = 255
MOST_LISTED = 10_000


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
        file = self.store(content, tenant=tenant, filename=filename, purpose=purpose)
        self._files.add(file)
        return file

    def store(self, content: BinaryIO, *, tenant: str, filename: str, purpose: FilePurpose) -> StoredFile:
        """Checks a file and stores its content; nobody knows of it yet. Raises InvalidTrainingFile."""
        for _ in read_items(content) if purpose == "evals" else read_rows(content, filename=filename)[1]:
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
        return file

    def discard(self, file: StoredFile) -> None:
        """Drops the content of a file that nobody knows of."""
        self._artifacts.delete(file.artifact)

    def page(
        self, *, tenant: str, purpose: str | None, after: str | None, limit: int, order: Order
    ) -> list[StoredFile]:
        """Raises InvalidValue where there is no file `after`."""
        if after is not None and self.find(after, tenant=tenant) is None:
            raise InvalidValue(f"No such file: `{after}`.", param="after")
        return self._files.page(tenant=tenant, purpose=purpose, after=after, limit=limit, order=order)

    def find(self, file_id: str, *, tenant: str) -> StoredFile | None:
        return self._files.get(file_id, tenant=tenant)

    def require(self, file_id: str, *, tenant: str) -> StoredFile:
        file = self.find(file_id, tenant=tenant)
        if file is None:
            raise _no_such_file(file_id)
        return file

    def content(self, file: StoredFile) -> Iterator[bytes]:
        """Raises NotFound where it was deleted in this moment."""
        try:
            return self._artifacts.read(file.artifact)
        except FileNotFoundError:
            raise _no_such_file(file.id) from None

    def delete(self, file_id: str, *, tenant: str) -> None:
        file = self.require(file_id, tenant=tenant)
        self._artifacts.delete(file.artifact)  # first: while this fails, the file can be deleted again
        if self._files.delete(file_id, tenant=tenant) is None:
            raise _no_such_file(file_id)


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
    key: JobsKey,
    service: Service,
    purpose: Annotated[str | None, Query(description="Only files for this purpose.")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Length of the page at most.")] = MOST_LISTED,
    order: Annotated[Order, Query(description="By the time at which they were made.")] = "desc",
) -> Page[FileObject]:
    files = await asyncio.to_thread(
        service.page, tenant=key.tenant, purpose=purpose, after=after, limit=limit + 1, order=order
    )
    return Page.of([FileObject.of(file) for file in files], limit)


@router.get("/{file_id}", summary="Retrieve a file's description.")
async def retrieve_file(file_id: str, key: JobsKey, service: Service) -> FileObject:
    return FileObject.of(await asyncio.to_thread(service.require, file_id, tenant=key.tenant))


@router.get("/{file_id}/content", summary="Retrieve a file's content.", response_class=StreamingResponse)
async def retrieve_file_content(file_id: str, key: JobsKey, service: Service) -> StreamingResponse:
    file = await asyncio.to_thread(service.require, file_id, tenant=key.tenant)
    headers = {
        "content-length": str(file.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",  # RFC 6266
    }
    content = await asyncio.to_thread(service.content, file)
    return StreamingResponse(content, media_type="application/jsonl", headers=headers)


@router.delete("/{file_id}", summary="Delete a file.")
async def delete_file(file_id: str, key: JobsKey, service: Service) -> FileDeleted:
    await asyncio.to_thread(service.delete, file_id, tenant=key.tenant)
    return FileDeleted(id=file_id)
