"""The artifacts that a database's rows name, and their copies in a backup."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, select

from store.artifacts import ArtifactStore, digest_of_files
from store.backup.copying import BackupDamaged, checked, write_measured
from store.backup.manifest import Content, Lost, artifact_file


@dataclass(frozen=True, slots=True)
class Reference:
    """A file or a folder, and the digest that its row tells. Nothing is ever written twice to one path."""

    path: str
    digest: str


def references(connection: Connection) -> Iterator[Reference]:
    """Parts of uploads are not among them: who uploads begins again."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table, column in (("files", "artifact"), ("job_checkpoints", "artifact"), ("models", "weights")):
        if (rows := metadata.tables.get(table)) is None:
            continue
        query = select(rows.c[column], rows.c.digest).where(rows.c[column].is_not(None))
        if table == "models":  # the weights of base models come from where the catalogue says
            query = query.where(rows.c.kind != "base")
        for path, digest in connection.execute(query):
            yield Reference(path, digest)


class ArtifactCopies:
    """Copies each artifact once, however often it is named."""

    def __init__(self, source: ArtifactStore, backup: ArtifactStore) -> None:
        self._source, self._backup = source, backup
        self._copied: dict[str, list[Content]] = {}

    def take(self, wanted: Iterable[Reference]) -> list[Reference]:
        """Copies what is not copied yet. Those that are not in the store."""
        return [reference for reference in wanted if not self._take(reference.path)]

    def contents(self, wanted: Iterable[Reference]) -> list[Content]:
        copied = {content.path: content for reference in wanted for content in self._copied.get(reference.path, ())}
        return sorted(copied.values(), key=lambda content: content.path)

    def lost(self, wanted: Iterable[Reference]) -> list[Lost]:
        lost = []
        for reference in wanted:
            if not self._copied.get(reference.path):
                lost.append(Lost(path=reference.path, reason="missing"))
            elif self._digest(reference.path) != reference.digest:
                lost.append(Lost(path=reference.path, reason="damaged"))
        return lost

    def _take(self, path: str) -> bool:
        if path in self._copied:
            return True
        try:
            copied = [self._copy(file) for file in self._source.files(path)]
        except FileNotFoundError:  # deleted while it was copied
            return False
        if copied:
            self._copied[path] = copied
        return bool(copied)

    def _copy(self, file: str) -> Content:
        with self._source.open(file) as source:
            return write_measured(source, self._backup, artifact_file(file), path=file)

    def _digest(self, path: str) -> str:
        files = {content.path: content.sha256 for content in self._copied[path]}
        if path in files:
            return f"sha256:{files[path]}"
        return digest_of_files({name.removeprefix(f"{path}/"): digest for name, digest in files.items()})


def put_back(backup: ArtifactStore, target: ArtifactStore, contents: Iterable[Content]) -> None:
    """Raises BackupDamaged."""
    for content in contents:
        try:
            with checked(backup, artifact_file(content.path), content) as source:
                target.write(content.path, source)
        except BackupDamaged:
            target.delete(content.path)
            raise
