"""Uploads in parts: rows in SQL; the parts' contents lie in the artifact store until the file is made of them."""

from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from contracts.files import StoredFile, StoredUpload, UploadPart, UploadStatus
from store.database import Database
from store.tables import FileRow, UploadPartRow, UploadRow


class UploadRepository:
    """An upload leaves `pending` once, whoever asks for it first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, upload: StoredUpload) -> None:
        with self._database.session() as session:
            session.add(UploadRow(**upload.model_dump()))

    def get(self, upload_id: str, *, tenant: str) -> StoredUpload | None:
        with self._database.session() as session:
            row = session.get(UploadRow, upload_id)
            return _to_upload(row) if row is not None and row.tenant == tenant else None

    def parts(self, upload_id: str) -> dict[str, UploadPart]:
        """By their identifiers."""
        with self._database.session() as session:
            rows = session.scalars(select(UploadPartRow).where(UploadPartRow.upload == upload_id))
            return {row.id: UploadPart.model_validate(row, from_attributes=True) for row in rows}

    def received(self, upload_id: str) -> tuple[int, int]:
        """Number of parts, and their bytes."""
        with self._database.session() as session:
            counted = select(func.count(), func.coalesce(func.sum(UploadPartRow.bytes), 0))
            count, length = session.execute(counted.where(UploadPartRow.upload == upload_id)).one()
            return int(count), int(length)

    def add_part(self, part: UploadPart) -> bool:
        """False where the upload is no longer pending: the part came too late."""
        with self._database.session() as session:
            pending = self._end(session, part.upload, "pending", None)  # changes nothing, but waits for who ends it
            if pending:
                session.add(UploadPartRow(**part.model_dump()))
            return pending

    def complete(self, upload_id: str, file: StoredFile) -> bool:
        """Makes the file known and ends the upload. False where it is no longer pending."""
        with self._database.session() as session:
            ended = self._end(session, upload_id, "completed", file.id)
            if ended:
                session.add(FileRow(**file.model_dump()))
            return ended

    def end(self, upload_id: str, status: UploadStatus) -> bool:
        """False where it is no longer pending."""
        with self._database.session() as session:
            return self._end(session, upload_id, status, None)

    def expired(self, *, now: int) -> list[str]:
        """Pending uploads past their time."""
        with self._database.session() as session:
            query = select(UploadRow.id).where(UploadRow.status == "pending", UploadRow.expires_at <= now)
            return list(session.scalars(query))

    def ended_with_parts(self) -> list[str]:
        """Uploads that ended and whose parts were not dropped."""
        with self._database.session() as session:
            query = select(UploadPartRow.upload).join(UploadRow, UploadRow.id == UploadPartRow.upload)
            return list(session.scalars(query.where(UploadRow.status != "pending").distinct()))

    def forget_parts(self, upload_id: str) -> None:
        with self._database.session() as session:
            session.execute(delete(UploadPartRow).where(UploadPartRow.upload == upload_id))

    @staticmethod
    def _end(session: Session, upload_id: str, status: UploadStatus, file: str | None) -> bool:
        pending = update(UploadRow).where(UploadRow.id == upload_id, UploadRow.status == "pending")
        changed = session.execute(pending.values(status=status, file=file))
        return cast(CursorResult[Any], changed).rowcount == 1


def _to_upload(row: UploadRow) -> StoredUpload:
    return StoredUpload.model_validate(row, from_attributes=True)
