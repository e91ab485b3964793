"""Uploaded files: rows in SQL, contents in the artifact store."""

from sqlalchemy import select

from contracts.files import FilePurpose, StoredFile
from store.database import Database
from store.tables import FileRow


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
        self, *, tenant: str, purpose: FilePurpose | None = None, after: str | None = None, limit: int = 100
    ) -> list[StoredFile]:
        """Newest first, at most `limit`, those older than the file `after`."""
        query = select(FileRow).where(FileRow.tenant == tenant)
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        with self._database.session() as session:
            if after is not None and (cursor := session.get(FileRow, after)) is not None:
                query = query.where(
                    (FileRow.created_at < cursor.created_at)
                    | ((FileRow.created_at == cursor.created_at) & (FileRow.id < cursor.id))
                )
            query = query.order_by(FileRow.created_at.desc(), FileRow.id.desc()).limit(limit)
            return [_to_file(row) for row in session.scalars(query)]

    def delete(self, file_id: str, *, tenant: str) -> StoredFile | None:
        with self._database.session() as session:
            row = session.get(FileRow, file_id)
            if row is None or row.tenant != tenant:
                return None
            session.delete(row)
            return _to_file(row)


def _to_file(row: FileRow) -> StoredFile:
    return StoredFile.model_validate(row, from_attributes=True)
