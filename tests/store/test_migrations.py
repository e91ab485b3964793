from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from store.database import MIGRATIONS, Database
from store.tables import Base


def migrate_to(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if revision == "base" else command.upgrade)(config, revision)
    engine.dispose()


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_migrations_go_up_down_and_up_again(empty_database_url: str) -> None:
    migrate_to(empty_database_url, "head")
    assert set(Base.metadata.tables) <= tables(empty_database_url)
    migrate_to(empty_database_url, "base")
    assert tables(empty_database_url) <= {"alembic_version"}
    migrate_to(empty_database_url, "head")
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def test_the_migrated_schema_is_the_one_that_the_tables_declare(empty_database_url: str) -> None:
    migrate_to(empty_database_url, "head")
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
