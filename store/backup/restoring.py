"""Takes a backup in, where nothing is."""

from store.artifacts import ArtifactStore
from store.backup.artifacts import put_back
from store.backup.manifest import Manifest
from store.backup.tables import load, prepare
from store.database import Database


def restore_backup(backup: ArtifactStore, database: Database, artifacts: ArtifactStore) -> Manifest:
    """Artifacts first, rows last and in one transaction, then the schema's newest revision. Every file is checked.

    Raises NoBackup, DatabaseNotEmpty, BackupDamaged, UnknownRevision; the database is then as empty as before.
    """
    manifest = Manifest.read(backup)
    prepare(database, manifest.revision)
    put_back(backup, artifacts, manifest.artifacts)
    load(database, backup, manifest.tables)
    database.migrate()
    return manifest
