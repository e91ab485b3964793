"""Labelled rows that encoders are measured on, a kind for each of their tasks.

classify        {"text", "label"}, as training files have them
                {"item": {"text", "label", …}} where fairness is measured by another column of the item
token_classify  {"tokens": […], "ner_tags": ["O", "B-PER", …]}, the same
embed           {"item": {"query", "passage"}}: the passage that answers the query; those of other rows do not
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from contracts.datasets import LabelRow, RowKind, TagsRow, read_rows
from contracts.engine import EngineTask
from contracts.errors import InvalidTrainingFile
from contracts.eval_items import read_items

KINDS: dict[EngineTask, RowKind] = {"classify": "labels", "token_classify": "tags"}


class RetrievalRow(msgspec.Struct, frozen=True):
    query: str
    passage: str


class GroupedRow(msgspec.Struct, frozen=True):
    """`group` is what the sensitive column says, numbers and truth values as JSON writes them."""

    text: str
    label: str
    group: str


EncoderRow = LabelRow | GroupedRow | TagsRow | RetrievalRow


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


def read_grouped_rows(lines: Iterable[bytes], sensitive: str) -> Iterator[GroupedRow]:
    """Rows as they are read. Raises InvalidTrainingFile that names the row; of the field `sensitive` where it says no
    group.
    """
    for number, found in enumerate(read_items(lines), start=1):
        text, label = found.item.get("text"), found.item.get("label")
        if not (isinstance(text, str) and isinstance(label, str) and text.strip() and label.strip()):
            message = f"Row {number} of the file is not valid: `item` needs the texts `text` and `label`."
            raise InvalidTrainingFile(message, param="file")
        yield GroupedRow(text, label, _group(found.item.get(sensitive), sensitive, number))


def _group(value: Any, sensitive: str, number: int) -> str:
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.strip():
        return value
    message = f"Row {number} of the file says no group: its `{sensitive}` is not a text, a number, true or false."
    raise InvalidTrainingFile(message, param="sensitive")


def _pairs(lines: Iterable[bytes]) -> Iterator[RetrievalRow]:
    for number, found in enumerate(read_items(lines), start=1):
        try:
            yield msgspec.convert(found.item, RetrievalRow)
        except msgspec.ValidationError as error:
            message = f"Row {number} of the file is not valid: {error}; `item` needs `query` and `passage`."
            raise InvalidTrainingFile(message, param="file") from None
