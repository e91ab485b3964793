"""The SQL engine, sessions and migrations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).with_name("migrations")


class UnknownRevision(Exception):
    """The database is of a newer Flywheel than this one, or of none."""


class Database:
    """Connections to SQLite or PostgreSQL, one transaction per `with database.session()`."""

    def __init__(self, url: str) -> None:
        self._engine = _create_engine(url)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Commits at the end of the block, rolls back if it raises."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Reads that all see the database as it was at the first of them, whatever others write meanwhile."""
        sqlite = self._engine.dialect.name == "sqlite"
        isolation: Any = {} if sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._engine.connect().execution_options(**isolation) as connection:
            if sqlite:  # Python's driver begins a transaction only before the first write
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `session`, for those who know tables and not rows."""
        with self._engine.begin() as connection:
            yield connection

    def migrate(self, revision: str = "head") -> None:
        """Brings the schema up to a revision. Of several processes that call it at once one does, and the others wait.

        Raises UnknownRevision.
        """
        self._alembic(command.upgrade, revision)

    def migrate_down(self, revision: str) -> None:
        """Brings the schema back to an older revision, `base` for none; what only newer ones hold is lost.

        Raises UnknownRevision.
        """
        self._alembic(command.downgrade, revision)

    def ping(self) -> None:
        """Raises SQLAlchemyError if the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        self._engine.dispose()

    def _alembic(self, move: Callable[[Config, str], None], revision: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._changing_schema() as connection:
            config.attributes["connection"] = connection
            try:
                move(config, revision)
            except CommandError as error:
                raise UnknownRevision(str(error)) from None

    @contextmanager
    def _changing_schema(self) -> Iterator[Connection]:
        """A transaction that is done as a whole or not at all, on both databases.

        SQLite changes a table by copying it, which foreign keys would take for a deletion of its rows (sqlite.org,
        "ALTER TABLE", "Making Other Kinds Of Table Schema Changes"); whether they hold is checked at the end.
        """
        if self._engine.dialect.name != "sqlite":
            with self._engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('flywheel migrations'))"))
                yield connection
            return
        with self._engine.connect() as connection:
            try:
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.rollback()
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver begins none before a CREATE
                yield connection
                if (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()) is not None:
                    raise IntegrityError("foreign_key_check", None, ValueError(f"a row of {broken[0]} lost its parent"))
                connection.commit()
            finally:
                connection.invalidate()  # the next one holds to foreign keys again


def _create_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 15})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Write-ahead logging lets readers go on while one process writes (sqlite.org/wal.html)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
