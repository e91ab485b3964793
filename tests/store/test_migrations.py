import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from store.artifacts import ArtifactStore
from store.database import MIGRATIONS, Database, UnknownRevision
from store.tables import Base
from tests.gateway_process import PEPPER
from tests.processes import Process, python
from tests.tenant_data import make_tenant_data, rows_of


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.dispose()


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_migrations_go_up_down_and_up_again(empty: Database, empty_database_url: str) -> None:
    empty.migrate()
    assert set(Base.metadata.tables) <= tables(empty_database_url)
    empty.migrate_down("base")
    assert tables(empty_database_url) <= {"alembic_version"}
    empty.migrate()
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def test_the_migrated_schema_is_the_one_that_the_tables_declare(empty: Database, empty_database_url: str) -> None:
    empty.migrate()
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_migrating_twice_changes_nothing(empty_database_url: str) -> None:
    for _ in range(2):
        database = Database(empty_database_url)
        database.migrate()
        database.dispose()
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def older_revisions() -> list[str]:
    """Newest first."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][1:]


def test_rows_live_through_every_migration_back_and_forth(
    database: Database, empty_database_url: str, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    """What a column or table held that an older schema has not is lost; all else is as before."""
    for tenant in ("acme", "other"):
        make_tenant_data(database, artifacts, tmp_path, tenant=tenant, pepper=PEPPER)
    before = rows_of(empty_database_url)

    for revision in older_revisions():
        database.migrate_down(revision)
        older = rows_of(empty_database_url)
        assert older["alembic_version"] == [json.dumps({"version_num": revision})]
        for table, rows in older.items():
            if table != "alembic_version":
                assert rows == sorted(kept(row, rows[0]) for row in before[table]), (revision, table)
    for revision in reversed(older_revisions()):
        database.migrate(revision)
    database.migrate()

    after = rows_of(empty_database_url)
    for table in ("api_keys", "files", "jobs", "job_events", "models"):
        assert len(after[table]) == len(before[table]), table
    assert after["alembic_version"] == before["alembic_version"]
    make_tenant_data(database, artifacts, tmp_path, tenant="third", pepper=PEPPER)


def kept(row: str, older_row: str) -> str:
    """What of a row an older schema has columns for."""
    values = json.loads(row)
    return json.dumps({name: values[name] for name in json.loads(older_row)}, sort_keys=True)


def test_a_migration_that_fails_changes_nothing_and_is_repeated(empty: Database, empty_database_url: str) -> None:
    empty.migrate("0004")
    with empty.transaction() as connection:
        connection.execute(text("CREATE TABLE job_checkpoints (id INTEGER)"))  # the last thing that 0005 makes

    with pytest.raises(DBAPIError):
        empty.migrate()
    assert "queue" not in columns(empty_database_url, "jobs")
    with empty.transaction() as connection:
        connection.execute(text("DROP TABLE job_checkpoints"))
    empty.migrate()
    assert "queue" in columns(empty_database_url, "jobs")


def test_after_a_migration_foreign_keys_hold_again(empty: Database) -> None:
    empty.migrate()
    with pytest.raises(IntegrityError):
        with empty.transaction() as connection:
            connection.execute(text("INSERT INTO upload_parts VALUES ('part_1', 'upload_none', 1, 1)"))


def test_processes_that_migrate_at_once_do_it_once_and_one_goes_back(empty_database_url: str, tmp_path: Path) -> None:
    environment = {"FLYWHEEL_DATABASE_URL": empty_database_url}
    migrating = [
        Process(python("-m", "store.migrate"), log=tmp_path / f"{number}.log", environment=environment)
        for number in range(2)
    ]
    for process in migrating:
        process.wait(timeout_s=60)
    assert set(Base.metadata.tables) <= tables(empty_database_url)

    back = Process(
        python("-m", "store.migrate", "--back-to", "0005"), log=tmp_path / "back.log", environment=environment
    )
    back.wait(timeout_s=60)
    assert "releases" not in tables(empty_database_url)


def test_a_revision_that_is_not_known_is_refused(empty: Database) -> None:
    with pytest.raises(UnknownRevision):
        empty.migrate("9999")


def columns(url: str, table: str) -> set[str]:
    engine = create_engine(url)
    names = {column["name"] for column in inspect(engine).get_columns(table)}
    engine.dispose()
    return names
