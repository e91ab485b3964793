"""All rows of a database, out of one and into another.

Tables are read off the database itself and not off our classes, so that a backup of an older schema can still be taken
in, and then migrated.
"""

import gzip
import json
import shutil
import tempfile
from itertools import islice
from typing import BinaryIO, cast

from alembic.migration import MigrationContext
from sqlalchemy import JSON, Connection, MetaData, Table, func, insert, select, text

from store.artifacts import ArtifactStore
from store.backup.copying import checked, write_measured
from store.backup.manifest import Content, TableContent, table_file
from store.database import Database

ROWS_AT_ONCE = 1000
OF_ALEMBIC = "alembic_version"


class DatabaseNotEmpty(Exception):
    """A backup is taken into an empty database only."""


def revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def tables_of(connection: Connection) -> list[Table]:
    """Those that others refer to come first."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != OF_ALEMBIC]


def dump(connection: Connection, backup: ArtifactStore) -> list[TableContent]:
    return [_dump_table(connection, table, backup) for table in tables_of(connection)]


def prepare(database: Database, revision: str) -> None:
    """Gives an empty database the tables of a revision. Raises DatabaseNotEmpty, UnknownRevision."""
    with database.snapshot() as connection:
        found = revision_of(connection)
        for table in tables_of(connection):
            if connection.execute(select(table).limit(1)).first() is not None:
                raise DatabaseNotEmpty(f"The database is not empty: `{table.name}` has rows.")
    if found is not None:
        database.migrate_down("base")
    database.migrate(revision)


def load(database: Database, backup: ArtifactStore, contents: tuple[TableContent, ...]) -> None:
    """All rows or none. Raises BackupDamaged."""
    expected = {content.path: content for content in contents}
    with database.transaction() as connection:
        for table in tables_of(connection):
            if (content := expected.get(table.name)) is not None:
                _load_table(connection, table, backup, content)


def _dump_table(connection: Connection, table: Table, backup: ArtifactStore) -> TableContent:
    rows = 0
    with tempfile.TemporaryFile() as spool:
        with gzip.GzipFile(fileobj=spool, mode="wb", mtime=0) as out:
            found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table))
            for row in found.mappings():
                out.write(json.dumps(dict(row), ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                rows += 1
        spool.seek(0)
        written = write_measured(cast(BinaryIO, spool), backup, table_file(table.name), path=table.name)
    return TableContent(**written.model_dump(), rows=rows)


def _load_table(connection: Connection, table: Table, backup: ArtifactStore, expected: Content) -> None:
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type.none_as_null = True
    with tempfile.TemporaryFile() as spool:
        with checked(backup, table_file(table.name), expected) as source:
            shutil.copyfileobj(source, spool)
        spool.seek(0)
        with gzip.GzipFile(fileobj=spool, mode="rb") as lines:
            rows = (json.loads(line) for line in lines)
            while batch := list(islice(rows, ROWS_AT_ONCE)):
                connection.execute(insert(table), batch)
    _go_on_counting(connection, table)


def _go_on_counting(connection: Connection, table: Table) -> None:
    """PostgreSQL counts in a sequence, which does not see the numbers that rows came with. SQLite looks at the rows."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key:
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
        )
        last = None if sequence is None else connection.scalar(select(func.max(column)))
        if last is not None:
            connection.execute(select(func.setval(sequence, last)))
