"""The artifact store: files by path, in a folder or in S3, through fsspec."""

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.utils import get_protocol

CHUNK_BYTES = 1 << 20


SERVABLE_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md"})
"""Weights, configurations, tokenizers and words. No pickles and no code: loading those runs what is in them."""


class ArtifactRefused(Exception):
    """A model that is not to be loaded; the message says why."""


class DigestMismatch(ArtifactRefused):
    """An artifact is not what its digest says: it was changed or cut short."""


class ArtifactsUnavailable(ConnectionError):
    """The store does not answer; a little later it may."""


AWAY = frozenset(
    {
        *(errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.EPIPE),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)
"""EIO is also what s3fs makes of an S3 error that it has tried again in vain, EREMOTEIO and EBUSY of 500 and 503."""
S3_AWAY = frozenset(
    {
        ("botocore.exceptions", "ConnectionError"),
        ("botocore.exceptions", "HTTPClientError"),
        ("aiohttp.client_exceptions", "ClientError"),
    }
)
S3_REFUSED = ("botocore.exceptions", "BotoCoreError")
"""The root of the others: no credentials, a name that no bucket can have."""
# What does not answer is given up soon: gateways wait in threads that others need too.
S3_PATIENCE = {"connect_timeout": 3, "read_timeout": 10, "retries": {"max_attempts": 2, "mode": "standard"}}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "file": {"auto_mkdir": True},
    "local": {"auto_mkdir": True},
    "s3": {"config_kwargs": S3_PATIENCE},
}


def is_away(error: BaseException) -> bool:
    """Whether an error is that of a disk, a network or a server which does not answer at the moment."""
    return isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in AWAY)


@contextmanager
def _reached() -> Iterator[None]:
    """Raises ArtifactsUnavailable for whatever is raised where the store is away, and none of botocore's own errors."""
    try:
        yield
    except Exception as error:
        kinds = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
        if is_away(error) or kinds & S3_AWAY:
            raise ArtifactsUnavailable(str(error)) from error
        if S3_REFUSED in kinds:
            raise PermissionError(str(error)) from error
        raise


class ArtifactStore:
    """Paths are relative to the store's URL, for example `models/ft:…/adapter_model.safetensors`.

    Any of it may raise ArtifactsUnavailable, and PermissionError.
    """

    def __init__(self, url: str) -> None:
        options = OPTIONS.get(get_protocol(url), {})
        # A listing that fsspec remembers does not know what other services have written and deleted since.
        self._filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        self._root = str(root).rstrip("/")
        self._filesystem.retries = 1  # of s3fs, for each of which botocore has its own

    @_reached()
    def write(self, path: str, source: BinaryIO) -> None:
        """Replaces the artifact at `path` by what `source` holds from its current position on."""
        with self._filesystem.open(self._absolute(path), "wb") as out:
            shutil.copyfileobj(source, out, CHUNK_BYTES)

    @_reached()
    def read(self, path: str) -> Iterator[bytes]:
        """The artifact in chunks. Raises FileNotFoundError at once."""
        return self._chunks(self._open(path))

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """The artifact, to be read in whatever parts. Raises FileNotFoundError."""
        with _reached(), self._open(path) as source:
            yield source

    @_reached()
    def files(self, path: str) -> list[str]:
        """Paths of all artifacts below a folder, or the artifact's own; empty if there is none."""
        target = self._absolute(path)
        found: list[str] = self._filesystem.find(target) if self._filesystem.exists(target) else []
        return sorted(name[len(self._root) :].lstrip("/") for name in found)

    def lines(self, path: str) -> Iterator[bytes]:
        with _reached(), self._open(path) as source:
            yield from source

    @_reached()
    def delete(self, path: str) -> None:
        """Deletes an artifact or a folder of them; nothing happens if there is none. Raises PermissionError where some
        of it is still there: S3 answers well, and names in the answer what it did not delete."""
        target = self._absolute(path)
        if self._filesystem.exists(target):
            self._filesystem.rm(target, recursive=True)
            if self._filesystem.exists(target):
                raise PermissionError(f"{path} could not be deleted.")

    @_reached()
    def check_model(self, path: str) -> None:
        """Raises ArtifactRefused where a stored model has files that must never be loaded. Costs a listing."""
        root = self._absolute(path)
        found = self._filesystem.find(root, detail=True)
        if links := [name for name, file in found.items() if file.get("islink")]:
            raise ArtifactRefused(f"{links[0][len(root) :].strip('/')} is a symbolic link.")
        check_servable(name[len(root) :].strip("/") for name in found)

    def download_model(self, path: str, folder: Path, *, digest: str) -> None:
        """`download_folder` of something that is to be loaded. Raises ArtifactRefused too, before a byte is brought."""
        self.check_model(path)
        self.download_folder(path, folder, digest=digest)

    @_reached()
    def size(self, path: str) -> int:
        """Bytes of an artifact, or of all below a folder; 0 if there is none."""
        target = self._absolute(path)
        return int(self._filesystem.du(target)) if self._filesystem.exists(target) else 0

    def upload_folder(self, folder: Path, path: str) -> str:
        """Stores every file of `folder` under `path` and returns the digest of the whole. Raises ArtifactRefused for
        a symbolic link."""
        _refuse_links(folder)
        for name in _files_of(folder):
            with (folder / name).open("rb") as source:
                self.write(f"{path}/{name}", source)
        return folder_digest(folder)

    @_reached()
    def download_folder(self, path: str, folder: Path, *, digest: str) -> None:
        """Brings a stored folder to this machine and checks it. An intact copy that is there already is kept.

        The copy appears whole or not at all. Raises DigestMismatch, FileNotFoundError.
        """
        if folder.is_dir() and folder_digest(folder) == digest:
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            partial = Path(scratch) / folder.name
            self._filesystem.get(self._absolute(path), str(partial), recursive=True)
            if (found := folder_digest(partial)) != digest:
                raise DigestMismatch(f"{path}: expected {digest}, found {found}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                partial.rename(folder)
            except OSError:  # another process brought it in this moment
                if folder_digest(folder) != digest:
                    raise

    def _open(self, path: str) -> BinaryIO:
        source: BinaryIO = self._filesystem.open(self._absolute(path), "rb")
        return source

    def _chunks(self, opened: BinaryIO) -> Iterator[bytes]:
        with _reached(), opened as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk

    def _absolute(self, path: str) -> str:
        if ".." in path.split("/"):
            raise ValueError("A path of the artifact store has no '..'.")
        return f"{self._root}/{path}"


def folder_digest(folder: Path) -> str:
    """`sha256:…` over the names and contents of every file below `folder`, in the order of their names."""
    digests = {}
    for name in _files_of(folder):
        with (folder / name).open("rb") as source:
            digests[name] = hashlib.file_digest(source, "sha256").hexdigest()
    return digest_of_files(digests)


def digest_of_files(digests: Mapping[str, str]) -> str:
    """`folder_digest` of a folder whose files have these names and these SHA-256 digests, in hexadecimal digits."""
    whole = hashlib.sha256()
    for name, digest in sorted(digests.items()):
        whole.update(f"{digest}  {name}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def check_servable(names: Iterable[str]) -> None:
    """Raises ArtifactRefused where one of the files could run code when it is loaded, or has a name with a control
    character, by which two folders could have one digest."""
    for name in names:
        if not name.isprintable():
            raise ArtifactRefused(f"{name!r} is not a name for a model's file.")
        if Path(name).suffix.lower() not in SERVABLE_SUFFIXES:
            allowed = ", ".join(sorted(SERVABLE_SUFFIXES))
            raise ArtifactRefused(f"{name} is not a file that a model may have; they end in {allowed}.")


def _refuse_links(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise ArtifactRefused(f"{path.relative_to(folder)} is a symbolic link, which could lead anywhere.")


def _files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
