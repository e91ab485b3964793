"""Makes a backup while everything runs."""

import time

from store.artifacts import ArtifactStore
from store.backup.artifacts import ArtifactCopies, Reference, references
from store.backup.manifest import Manifest, TableContent
from store.backup.tables import dump, revision_of
from store.database import Database, UnknownRevision

MOST_ROUNDS = 5


class BackupExists(Exception):
    """There is something at this place already."""


def make_backup(database: Database, artifacts: ArtifactStore, backup: ArtifactStore, *, pepper_mark: str) -> Manifest:
    """Rows of one moment, with every artifact that they name. Raises BackupExists, UnknownRevision.

    Artifacts are written before the rows that name them, and deleted with them. So where one is gone by the time it is
    to be copied, its row is gone too in a moment, and the rows are taken again. One that is missing though its row is
    still there is lost, and the backup says so.
    """
    if backup.files(""):
        raise BackupExists("There is something at this place already.")
    copies = ArtifactCopies(artifacts, backup)
    missing: list[Reference] = []
    for _ in range(MOST_ROUNDS):
        before, (revision, tables, wanted) = missing, _take_rows(database, backup)
        missing = copies.take(wanted)
        if missing == before or not missing:
            break
    manifest = Manifest(
        created_at=int(time.time()),
        revision=revision,
        pepper_mark=pepper_mark,
        tables=tuple(tables),
        artifacts=tuple(copies.contents(wanted)),
        lost=tuple(copies.lost(wanted)),
    )
    manifest.write(backup)
    return manifest


def _take_rows(database: Database, backup: ArtifactStore) -> tuple[str, list[TableContent], list[Reference]]:
    with database.snapshot() as connection:
        revision = revision_of(connection)
        if revision is None:
            raise UnknownRevision("The database has no tables of Flywheel.")
        return revision, dump(connection, backup), list(references(connection))
