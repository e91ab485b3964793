"""Backups: out of one database and store, into another."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import RetryPolicy
from store.artifacts import ArtifactStore
from store.backup.copying import BackupDamaged
from store.backup.making import BackupExists, make_backup
from store.backup.manifest import Manifest, NoBackup, artifact_file
from store.backup.restoring import restore_backup
from store.backup.tables import DatabaseNotEmpty
from store.database import Database, UnknownRevision
from store.files import FileRepository
from store.jobs import JobRepository
from store.tables import Base
from tests.gateway_process import PEPPER
from tests.postgres_process import PostgresProcess
from tests.tenant_data import ROWS, TenantData, add_file, make_tenant_data, rows_of


@pytest.fixture
def data(database: Database, artifacts: ArtifactStore, tmp_path: Path) -> TenantData:
    return make_tenant_data(database, artifacts, tmp_path / "made", tenant="acme", pepper=PEPPER)


@pytest.fixture
def backup(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/backup")


EITHER = pytest.mark.parametrize("elsewhere_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def elsewhere_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path}/elsewhere.db"
        return
    postgres: PostgresProcess = request.getfixturevalue("postgres")
    with postgres.new_database() as url:
        yield url


@pytest.fixture
def elsewhere(elsewhere_url: str) -> Iterator[Database]:
    """An empty database: of SQLite, or with EITHER of both kinds in turn."""
    database = Database(elsewhere_url)
    yield database
    database.dispose()


@pytest.fixture
def other_artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/other-artifacts")


def make(database: Database, artifacts: ArtifactStore, backup: ArtifactStore) -> Manifest:
    return make_backup(database, artifacts, backup, pepper_mark="mark")


@EITHER
def test_every_row_and_every_artifact_comes_back_in_either_kind_of_database(
    database: Database,
    empty_database_url: str,
    artifacts: ArtifactStore,
    data: TenantData,
    backup: ArtifactStore,
    elsewhere: Database,
    elsewhere_url: str,
    other_artifacts: ArtifactStore,
    tmp_path: Path,
) -> None:
    before = rows_of(empty_database_url)
    assert {name for name in Base.metadata.tables if not before[name]} == set(), "a table that is not tried here"

    made = make(database, artifacts, backup)
    taken = restore_backup(backup, elsewhere, other_artifacts)

    assert made == taken
    assert made.lost == ()
    assert rows_of(elsewhere_url) == before
    assert b"".join(other_artifacts.read(data.file.artifact)) == ROWS
    other_artifacts.download_model(data.model.weights, tmp_path / "fetched", digest=data.model.digest)


@EITHER
def test_a_restored_database_goes_on(
    database: Database,
    artifacts: ArtifactStore,
    data: TenantData,
    backup: ArtifactStore,
    elsewhere: Database,
    other_artifacts: ArtifactStore,
) -> None:
    """Events get numbers that are not taken, and a job whose worker is gone is taken up again."""
    JobRepository(database).renew(data.job.id, 1, lease_s=-10)
    make(database, artifacts, backup)
    restore_backup(backup, elsewhere, other_artifacts)

    jobs = JobRepository(elsewhere)
    assert jobs.with_dead_worker() == [data.job.id]
    policy = RetryPolicy(max_attempts=3, first_pause_s=1, longest_pause_s=1)
    assert jobs.take_back(data.job.id, policy, reason="The worker is gone.") == "queued"
    assert "The worker is gone." in jobs.events(data.job.id)[0].message


def test_a_backup_goes_only_where_nothing_is_and_into_an_empty_database(
    database: Database, artifacts: ArtifactStore, data: TenantData, backup: ArtifactStore
) -> None:
    with pytest.raises(NoBackup):
        restore_backup(backup, database, artifacts)
    make(database, artifacts, backup)
    with pytest.raises(BackupExists):
        make(database, artifacts, backup)
    with pytest.raises(DatabaseNotEmpty):
        restore_backup(backup, database, artifacts)


@pytest.mark.parametrize("name", ["tables/jobs.jsonl.gz", "artifact"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_of_a_damaged_backup_no_row_is_restored(
    name: str,
    damage: str,
    database: Database,
    artifacts: ArtifactStore,
    data: TenantData,
    backup: ArtifactStore,
    elsewhere: Database,
    elsewhere_url: str,
    other_artifacts: ArtifactStore,
    tmp_path: Path,
) -> None:
    make(database, artifacts, backup)
    file = tmp_path / "backup" / (artifact_file(data.file.artifact) if name == "artifact" else name)
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"!")

    with pytest.raises(BackupDamaged):
        restore_backup(backup, elsewhere, other_artifacts)
    assert [rows for table, rows in rows_of(elsewhere_url).items() if rows and table != "alembic_version"] == []
    assert name != "artifact" or other_artifacts.files(data.file.artifact) == []


def test_artifacts_that_are_missing_or_damaged_are_told(
    database: Database, artifacts: ArtifactStore, data: TenantData, backup: ArtifactStore, tmp_path: Path
) -> None:
    artifacts.delete(data.file.artifact)
    (tmp_path / "artifacts" / data.model.weights / "adapter_config.json").write_text("{ }")
    made = make(database, artifacts, backup)
    assert {(lost.path, lost.reason) for lost in made.lost} == {
        (data.file.artifact, "missing"),
        (data.model.weights, "damaged"),
    }


def test_what_is_deleted_while_the_backup_is_made_is_not_in_it(
    database: Database, artifacts: ArtifactStore, data: TenantData, backup: ArtifactStore, tmp_path: Path
) -> None:
    class Busy(ArtifactStore):
        """Somebody deletes the file between the reading of its row and the copying of its content."""

        def files(self, path: str) -> list[str]:
            if path == data.file.artifact:
                FileRepository(database).delete(data.file.id, tenant=data.tenant)
                self.delete(path)
            return super().files(path)

    made = make(database, Busy(f"file://{tmp_path}/artifacts"), backup)
    assert made.lost == ()
    assert next(table.rows for table in made.tables if table.path == "files") == 0


def test_backups_beside_writes_hold_each_file_whole_or_not_at_all(
    database: Database,
    artifacts: ArtifactStore,
    data: TenantData,
    tmp_path: Path,
    elsewhere: Database,
    other_artifacts: ArtifactStore,
) -> None:
    done, changes = threading.Event(), 0

    def write() -> None:
        nonlocal changes
        files = FileRepository(database)
        while not done.is_set():
            file = add_file(database, artifacts, "acme")
            assert files.delete(file.id, tenant="acme") is not None
            artifacts.delete(file.artifact)
            changes += 1

    writer = threading.Thread(target=write)
    writer.start()
    backup = ArtifactStore(f"file://{tmp_path}/beside-writes")
    while not changes:
        pass
    made = make(database, artifacts, backup)
    done.set()
    writer.join()
    restore_backup(backup, elsewhere, other_artifacts)
    assert made.lost == ()
    kept = FileRepository(elsewhere).page(tenant="acme")
    assert data.file in kept
    assert all(b"".join(other_artifacts.read(file.artifact)) == ROWS for file in kept)


def test_a_backup_of_an_older_schema_is_restored_and_migrated(
    database: Database,
    artifacts: ArtifactStore,
    data: TenantData,
    backup: ArtifactStore,
    elsewhere: Database,
    other_artifacts: ArtifactStore,
) -> None:
    database.migrate_down("0004")
    made = make(database, artifacts, backup)
    restore_backup(backup, elsewhere, other_artifacts)

    job = JobRepository(elsewhere).get(data.job.id)
    assert made.revision == "0004"
    assert job is not None
    assert (job.queue, job.spec) == ("cpu", data.job.spec)


def test_a_backup_of_a_newer_flywheel_is_refused(
    database: Database, artifacts: ArtifactStore, data: TenantData, backup: ArtifactStore, elsewhere: Database
) -> None:
    made = make(database, artifacts, backup)
    made.model_copy(update={"revision": "9999"}).write(backup)
    with pytest.raises(UnknownRevision):
        restore_backup(backup, elsewhere, artifacts)


def test_without_a_schema_there_is_nothing_to_back_up(
    elsewhere: Database, artifacts: ArtifactStore, backup: ArtifactStore
) -> None:
    with pytest.raises(UnknownRevision):
        make(elsewhere, artifacts, backup)
    with pytest.raises(NoBackup):
        Manifest.read(backup)
