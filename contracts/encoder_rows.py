"""Labelled rows that encoders are measured on, a kind for each of their tasks.

classify        {"text", "label"}, as training files have them
token_classify  {"tokens": […], "ner_tags": ["O", "B-PER", …]}, the same
embed           {"item": {"query", "passage"}}: the passage that answers the query; those of other rows do not
"""

from collections.abc import Iterable, Iterator

import msgspec

from contracts.datasets import LabelRow, RowKind, TagsRow, read_rows
from contracts.engine import EngineTask
from contracts.errors import InvalidTrainingFile
from contracts.eval_items import read_items

KINDS: dict[EngineTask, RowKind] = {"classify": "labels", "token_classify": "tags"}


class RetrievalRow(msgspec.Struct, frozen=True):
    query: str
    passage: str


EncoderRow = LabelRow | TagsRow | RetrievalRow


def read_encoder_rows(lines: Iterable[bytes], task: EngineTask, *, filename: str) -> Iterator[EncoderRow]:
    """Rows as they are read. Raises InvalidTrainingFile, which names the row, or the kind of file that is needed."""
    if task == "embed":
        yield from _pairs(lines)
        return
    kind, rows = read_rows(lines, filename=filename)
    if kind != KINDS[task]:
        reason = f"The file has rows of the kind {kind}; a model of the task `{task}` needs {KINDS[task]}."
        raise InvalidTrainingFile(reason, param="file")
    for numbered in rows:
        assert isinstance(numbered.row, LabelRow | TagsRow)
        yield numbered.row


def _pairs(lines: Iterable[bytes]) -> Iterator[RetrievalRow]:
    for number, found in enumerate(read_items(lines), start=1):
        try:
            yield msgspec.convert(found.item, RetrievalRow)
        except msgspec.ValidationError as error:
            message = f"Row {number} of the file is not valid: {error}; `item` needs `query` and `passage`."
            raise InvalidTrainingFile(message, param="file") from None
