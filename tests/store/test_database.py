import pytest
from sqlalchemy import create_engine, select, text

from store.database import Database
from store.tables import FileRow


def a_file(identifier: str) -> FileRow:
    return FileRow(
        id=identifier, tenant="t", filename="f", purpose="fine-tune", bytes=1, digest="d", artifact="a", created_at=1
    )


def test_a_session_that_raises_leaves_nothing_behind(database: Database) -> None:
    def add_and_fail() -> None:
        with database.session() as session:
            session.add(a_file("file-1"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    with database.session() as session:
        assert session.scalars(select(FileRow)).all() == []


def test_sqlite_keeps_readers_going_and_holds_to_foreign_keys(empty_database_url: str) -> None:
    if not empty_database_url.startswith("sqlite"):
        pytest.skip("about SQLite")
    database = Database(empty_database_url)
    database.migrate()
    with database.session() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    database.dispose()


def test_a_missing_folder_of_a_sqlite_file_is_made(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/not/yet/there.db"
    database = Database(url)
    database.migrate()
    database.dispose()
    create_engine(url).connect().close()
