"""Here `database` is SQLite and PostgreSQL, one test after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from tests.postgres_process import PostgresProcess


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own for each test, without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/flywheel.db"
        return
    postgres: PostgresProcess = request.getfixturevalue("postgres")
    with postgres.new_database() as url:
        yield url


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    database.migrate()
    yield database
    database.dispose()
