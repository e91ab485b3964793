"""Copies files from one store to another and measures them on the way."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

from store.artifacts import ArtifactStore
from store.backup.manifest import Content


class BackupDamaged(Exception):
    """A file of the backup is not what its manifest says."""


class Measured:
    """A source that is read once, from beginning to end."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self._digest.update(chunk)
        self._bytes += len(chunk)
        return chunk

    def content(self, path: str) -> Content:
        return Content(path=path, bytes=self._bytes, sha256=self._digest.hexdigest())


def write_measured(source: BinaryIO, target: ArtifactStore, name: str, *, path: str) -> Content:
    measured = Measured(source)
    target.write(name, cast(BinaryIO, measured))
    return measured.content(path)


@contextmanager
def checked(backup: ArtifactStore, name: str, expected: Content) -> Iterator[BinaryIO]:
    """A file of the backup, to be read to its end in the block. Raises BackupDamaged, at the latest after it."""
    with ExitStack() as stack:
        try:
            source = stack.enter_context(backup.open(name))
        except FileNotFoundError:
            raise BackupDamaged(f"`{name}` is missing in the backup.") from None
        measured = Measured(source)
        yield cast(BinaryIO, measured)
    found = measured.content(expected.path)
    if (found.bytes, found.sha256) != (expected.bytes, expected.sha256):
        raise BackupDamaged(f"`{name}` is not what was backed up: {found.bytes} of {expected.bytes} bytes.")
