"""Rows of an evaluation's data, as OpenAI's: `{"item": {…}}`, and `"sample"` with an answer that is there already.

Templates name what is in them: `{{ item.question }}` is a field of the row, `{{ sample.output_text }}` the answer.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from contracts.chat_dataset import MAX_ROW_BYTES
from contracts.errors import InvalidTrainingFile

MOST_ITEMS = 20_000
PLACEHOLDER = re.compile(r"\{\{\s*(item|sample)\.([A-Za-z0-9_.]+)\s*\}\}")


class EvalItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


def read_items(lines: Iterable[bytes]) -> Iterator[EvalItem]:
    """The rows of a JSON Lines file, as they are read. Raises InvalidTrainingFile that names the row."""
    number, found = 0, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > MAX_ROW_BYTES:
            raise _invalid(number, f"the row is longer than {MAX_ROW_BYTES} bytes")
        found += 1
        if found > MOST_ITEMS:
            raise InvalidTrainingFile(f"The file has more than {MOST_ITEMS} rows.", param="file")
        try:
            yield msgspec.json.decode(line, type=EvalItem)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _invalid(number, str(error)) from None
    if not found:
        raise InvalidTrainingFile("The file has no rows.", param="file")


def named_in(template: str) -> set[tuple[str, str]]:
    """What a template names: pairs such as `("item", "question")`."""
    return {(source, path) for source, path in PLACEHOLDER.findall(template)}


def _invalid(number: int, reason: str) -> InvalidTrainingFile:
    return InvalidTrainingFile(f"Row {number} of the file is not valid: {reason}.", param="file")
