"""What a backup says of itself."""

import io
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.artifacts import ArtifactStore

MANIFEST = "backup.json"


class NoBackup(Exception):
    """There is no backup at this place, or none that was completed."""


class Content(BaseModel):
    """A file of a backup. `path` is the table's name, or the artifact's path in its store."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str


class TableContent(Content):
    rows: int


class Lost(BaseModel):
    """An artifact that a row names and that was not as the row says when the backup was made."""

    model_config = ConfigDict(frozen=True)

    path: str
    reason: Literal["missing", "damaged"]


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    created_at: int
    revision: str = Field(description="Of the database's schema.")
    pepper_mark: str = Field(description="Tells whether keys of the backup are good with a pepper.")
    tables: tuple[TableContent, ...]
    artifacts: tuple[Content, ...]
    lost: tuple[Lost, ...]

    def write(self, backup: ArtifactStore) -> None:
        backup.write(MANIFEST, io.BytesIO(self.model_dump_json(indent=1).encode()))

    @classmethod
    def read(cls, backup: ArtifactStore) -> "Manifest":
        """Raises NoBackup."""
        try:
            return cls.model_validate_json(b"".join(backup.read(MANIFEST)))
        except (FileNotFoundError, NotADirectoryError):
            raise NoBackup("There is no complete backup.") from None
        except ValidationError as error:
            raise NoBackup(f"`{MANIFEST}` is not understood: {error.errors()[0]['msg']}.") from None


def table_file(name: str) -> str:
    return f"tables/{name}.jsonl.gz"


def artifact_file(path: str) -> str:
    return f"artifacts/{path}"
