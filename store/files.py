"""Uploaded files: rows in SQL, contents in the artifact store."""

from typing import Literal

from sqlalchemy import select, tuple_

from contracts.files import StoredFile
from store.database import Database
from store.tables import FileRow

Order = Literal["asc", "desc"]


class FileRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, file: StoredFile) -> None:
        with self._database.session() as session:
            session.add(FileRow(**file.model_dump()))

    def get(self, file_id: str, *, tenant: str) -> StoredFile | None:
        with self._database.session() as session:
            row = session.get(FileRow, file_id)
            return _to_file(row) if row is not None and row.tenant == tenant else None

    def page(
        self,
        *,
        tenant: str,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
    ) -> list[StoredFile]:
        """Newest first (`desc`) or oldest first, at most `limit`, those that come after the file `after`."""
        query = select(FileRow).where(FileRow.tenant == tenant)
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        with self._database.session() as session:
            place = tuple_(FileRow.created_at, FileRow.id)
            if after is not None and (cursor := session.get(FileRow, after)) is not None:
                last = tuple_(cursor.created_at, cursor.id)
                query = query.where(place < last if order == "desc" else place > last)
            columns = (FileRow.created_at, FileRow.id)
            by = [column.desc() if order == "desc" else column.asc() for column in columns]
            return [_to_file(row) for row in session.scalars(query.order_by(*by).limit(limit))]

    def delete(self, file_id: str, *, tenant: str) -> StoredFile | None:
        with self._database.session() as session:
            row = session.get(FileRow, file_id)
            if row is None or row.tenant != tenant:
                return None
            session.delete(row)
            return _to_file(row)


def _to_file(row: FileRow) -> StoredFile:
    return StoredFile.model_validate(row, from_attributes=True)
