"""From uploaded files to rows."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from contracts.datasets import NumberedRow, read_rows
from contracts.errors import InvalidTrainingFile
from store.artifacts import ArtifactStore
from workers.finetune.task import DataFile
from workers.run import JobFailed


def fetch_file(artifacts: ArtifactStore, artifact: str | None, target: Path, *, digest: str, param: str) -> None:
    """Copies the file to this machine. Raises JobFailed if it is gone or is not what the job was started with.

    `param` is the field of the job that names the file.
    """
    if artifact is None:
        raise _gone(param)
    found = hashlib.sha256()
    try:
        with target.open("wb") as out:
            for chunk in artifacts.read(artifact):
                found.update(chunk)
                out.write(chunk)
    except FileNotFoundError:
        raise _gone(param) from None
    if f"sha256:{found.hexdigest()}" != digest:
        message = f"The {_in_words(param)} is not the one that the job was created with. Upload it again."
        raise JobFailed(f"{param}_changed", message, param=param)


def load_rows(file: DataFile, *, param: str) -> Sequence[NumberedRow]:
    """Raises JobFailed that names the broken row."""
    try:
        with file.path.open("rb") as lines:
            _, rows = read_rows(lines, filename=file.name)
            return list(rows)
    except InvalidTrainingFile as error:
        raise JobFailed(f"invalid_{param}", error.message, param=param) from None


def too_long(number: int, tokens: int, limit: int, *, param: str) -> JobFailed:
    message = f"Row {number} of the {_in_words(param)} is {tokens} tokens long; the model's context is {limit} tokens."
    return JobFailed("context_length_exceeded", message, param=param)


def _gone(param: str) -> JobFailed:
    return JobFailed(f"{param}_not_found", f"The {_in_words(param)} does not exist any more.", param=param)


def _in_words(param: str) -> str:
    return param.replace("_", " ")
