"""Here `database` is SQLite and, where FLYWHEEL_TEST_POSTGRES_URL names a server, PostgreSQL too."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from store.database import Database

POSTGRES = "FLYWHEEL_TEST_POSTGRES_URL"


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES in os.environ else [])])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own for each test, without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/flywheel.db"
        return
    with _new_postgres_database(os.environ[POSTGRES]) as url:
        yield url


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    database.migrate()
    yield database
    database.dispose()


@contextmanager
def _new_postgres_database(server_url: str) -> Iterator[str]:
    name = f"flywheel_test_{uuid.uuid4().hex[:12]}"
    server = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
