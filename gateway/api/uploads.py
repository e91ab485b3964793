"""/v1/uploads: a file in parts, each of which can be sent again (OpenAI API reference, "Uploads")."""

import asyncio
import hashlib
import io
import re
import tempfile
import time
from typing import Annotated, BinaryIO, Literal, cast

import structlog
from fastapi import APIRouter, Depends, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import Conflict, InvalidValue, NotFound
from contracts.files import FilePurpose, StoredUpload, UploadPart, UploadStatus
from contracts.identifiers import new_id
from gateway.api.access import JobsKey
from gateway.api.files import MAX_FILENAME_LETTERS, FileObject, FileService
from store.artifacts import ArtifactStore
from store.uploads import UploadRepository

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"])
PART_PATH = re.compile(r"/v1/uploads/[^/]+/parts")
LIFETIME_S = 3600
MAX_PART_BYTES = 64 << 20
MAX_PART_BODY_BYTES = MAX_PART_BYTES + (64 << 10)
"""With what a form puts around a part."""
MOST_PARTS = 10_000
SENT_AGAIN = 2
"""All parts together may hold so many times the file's bytes: a part whose answer was lost is sent again."""
SWEEP_EVERY_S = 60.0


class CreateUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: Annotated[str, Field(min_length=1, max_length=MAX_FILENAME_LETTERS)]
    purpose: FilePurpose
    bytes: Annotated[int, Field(gt=0, description="Of the whole file.")]
    mime_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=127)]


class CompleteUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_PARTS, description="In the file's order.")]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$", description="Of the whole file.")] | None = None


class UploadObject(BaseModel):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: FilePurpose
    status: UploadStatus
    file: FileObject | None = None


class PartObject(BaseModel):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class UploadService:
    """Synchronous but for `run`; the routes call it in threads.

    Any gateway takes any part. Parts lie in the artifact store until the upload ends: the file is then made of them,
    checked as one that is uploaded whole, or they are dropped.
    """

    def __init__(
        self, uploads: UploadRepository, files: FileService, artifacts: ArtifactStore, *, max_upload_bytes: int
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._artifacts = artifacts
        self._max_upload_bytes = max_upload_bytes
        self._log = structlog.get_logger(__name__)

    def create(self, wanted: CreateUpload, *, tenant: str) -> UploadObject:
        """Raises InvalidValue for a file that is too large."""
        if wanted.bytes > self._max_upload_bytes:
            raise InvalidValue(f"A file has at most {self._max_upload_bytes} bytes.", param="bytes")
        now = int(time.time())
        upload = StoredUpload(
            id=new_id("upload"),
            tenant=tenant,
            filename=wanted.filename,
            purpose=wanted.purpose,
            bytes=wanted.bytes,
            status="pending",
            created_at=now,
            expires_at=now + LIFETIME_S,
        )
        self._uploads.add(upload)
        return self._describe(upload)

    def add_part(self, upload_id: str, content: BinaryIO, *, tenant: str) -> PartObject:
        """Raises NotFound, Conflict where the upload has ended, InvalidValue for too many or too large parts."""
        upload = self._require_pending(upload_id, tenant=tenant)
        part = UploadPart(id=new_id("part"), upload=upload.id, bytes=_length(content), created_at=int(time.time()))
        if part.bytes == 0 or part.bytes > MAX_PART_BYTES:
            raise InvalidValue(f"A part has 1 to {MAX_PART_BYTES} bytes.", param="data")
        count, received = self._uploads.received(upload.id)
        if count >= MOST_PARTS or received + part.bytes > SENT_AGAIN * upload.bytes:
            raise InvalidValue(f"The parts hold more than the {upload.bytes} bytes that were announced.", param="data")
        self._artifacts.write(_artifact(part), content)
        if not self._uploads.add_part(part):
            self._artifacts.delete(_artifact(part))
            raise _ended(upload.id)
        return PartObject(id=part.id, created_at=part.created_at, upload_id=upload.id)

    def complete(self, upload_id: str, wanted: CompleteUpload, *, tenant: str) -> UploadObject:
        """Makes the file. Asked for again, it tells what it made the first time.

        Raises NotFound, Conflict, InvalidTrainingFile, and InvalidValue where the parts are not the announced file.
        """
        upload = self._require(upload_id, tenant=tenant)
        if upload.status == "completed":
            return self._describe(upload)
        self._require_pending(upload_id, tenant=tenant)
        with tempfile.TemporaryFile() as content:
            self._put_together(upload, wanted, cast(BinaryIO, content))
            file = self._files.store(
                cast(BinaryIO, content), tenant=tenant, filename=upload.filename, purpose=upload.purpose
            )
        if not self._uploads.complete(upload.id, file):  # another request ended it meanwhile
            self._files.discard(file)
        self._drop_parts(upload.id)
        ended = self._require(upload_id, tenant=tenant)
        if ended.status != "completed":
            raise _ended(upload.id)
        return self._describe(ended)

    def cancel(self, upload_id: str, *, tenant: str) -> UploadObject:
        """Raises NotFound, and Conflict where the upload has ended in another way."""
        upload = self._require(upload_id, tenant=tenant)
        if upload.status != "cancelled":
            self._require_pending(upload_id, tenant=tenant)
            if not self._uploads.end(upload.id, "cancelled"):
                raise _ended(upload.id)
            self._drop_parts(upload.id)
        return self._describe(self._require(upload_id, tenant=tenant))

    def sweep(self) -> None:
        """Ends what is past its time, and drops parts that outlived their upload."""
        for upload_id in self._uploads.expired(now=int(time.time())):
            self._uploads.end(upload_id, "expired")
            self._drop_parts(upload_id)
        for upload_id in self._uploads.ended_with_parts():
            self._drop_parts(upload_id)

    async def run(self) -> None:
        """Sweeps now and then until cancelled. Several gateways may, at once."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await asyncio.to_thread(self.sweep)
            except (SQLAlchemyError, OSError) as error:
                self._log.warning("uploads not swept", reason=type(error).__name__)

    def _put_together(self, upload: StoredUpload, wanted: CompleteUpload, content: BinaryIO) -> None:
        parts = self._uploads.parts(upload.id)
        if missing := [part_id for part_id in wanted.part_ids if part_id not in parts]:
            raise InvalidValue(f"The upload has no part `{missing[0]}`.", param="part_ids")
        chosen = [parts[part_id] for part_id in wanted.part_ids]
        if (total := sum(part.bytes for part in chosen)) != upload.bytes:
            message = f"The parts hold {total} bytes; {upload.bytes} were announced when the upload was created."
            raise InvalidValue(message, param="part_ids")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            for part in chosen:
                for chunk in self._artifacts.read(_artifact(part)):
                    digest.update(chunk)
                    content.write(chunk)
        except FileNotFoundError:  # the upload ended meanwhile
            raise _ended(upload.id) from None
        if wanted.md5 is not None and digest.hexdigest() != wanted.md5.lower():
            raise InvalidValue("The parts put together have another MD5 digest.", param="md5")
        content.seek(0)

    def _drop_parts(self, upload_id: str) -> None:
        self._artifacts.delete(_folder(upload_id))
        self._uploads.forget_parts(upload_id)

    def _require(self, upload_id: str, *, tenant: str) -> StoredUpload:
        upload = self._uploads.get(upload_id, tenant=tenant)
        if upload is None:
            raise NotFound(f"No such upload: `{upload_id}`.", param="upload_id")
        return upload

    def _require_pending(self, upload_id: str, *, tenant: str) -> StoredUpload:
        upload = self._require(upload_id, tenant=tenant)
        if upload.status != "pending":
            raise _ended(upload_id)
        if upload.expires_at <= time.time():
            raise Conflict(f"The upload `{upload_id}` has expired.", param="upload_id")
        return upload

    def _describe(self, upload: StoredUpload) -> UploadObject:
        file = self._files.find(upload.file, tenant=upload.tenant) if upload.file is not None else None
        made = None if file is None else FileObject.of(file)
        return UploadObject.model_validate({**upload.model_dump(exclude={"file", "tenant"}), "file": made})


def _ended(upload_id: str) -> Conflict:
    return Conflict(f"The upload `{upload_id}` has ended; it takes no more parts and no other end.", param="upload_id")


def _folder(upload_id: str) -> str:
    return f"uploads/{upload_id}"


def _artifact(part: UploadPart) -> str:
    return f"{_folder(part.upload)}/{part.id}"


def _length(content: BinaryIO) -> int:
    length = content.seek(0, io.SEEK_END)
    content.seek(0)
    return length


def _service(request: Request) -> UploadService:
    service: UploadService = request.app.state.upload_service
    return service


Service = Annotated[UploadService, Depends(_service)]


@router.post("", summary="Begin a file that comes in parts; it must be complete within an hour.")
async def create_upload(key: JobsKey, service: Service, wanted: CreateUpload) -> UploadObject:
    return await asyncio.to_thread(service.create, wanted, tenant=key.tenant)


@router.post("/{upload_id}/parts", summary="Add a part, of 64 MiB at most; several may come at once.")
async def add_upload_part(upload_id: str, key: JobsKey, service: Service, data: UploadFile) -> PartObject:
    return await asyncio.to_thread(service.add_part, upload_id, data.file, tenant=key.tenant)


@router.post("/{upload_id}/complete", summary="Make the file of the parts, in the order given.")
async def complete_upload(upload_id: str, key: JobsKey, service: Service, wanted: CompleteUpload) -> UploadObject:
    return await asyncio.to_thread(service.complete, upload_id, wanted, tenant=key.tenant)


@router.post("/{upload_id}/cancel", summary="Give the file up.")
async def cancel_upload(upload_id: str, key: JobsKey, service: Service) -> UploadObject:
    return await asyncio.to_thread(service.cancel, upload_id, tenant=key.tenant)
