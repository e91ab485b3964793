"""From rows to training files without repeats, and what to say about them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import median

import msgspec

from contracts.chat_dataset import MIN_ROWS, ChatExample, ChatTurn
from contracts.dataset_inspection import (
    Repeats,
    RowText,
    estimate_tokens,
    find_repeats,
    search_personal_data,
)
from contracts.datasets import NumberedRow, PreferenceInput, PreferencePair

BuiltRow = ChatExample | PreferencePair


@dataclass(frozen=True, slots=True)
class Dataset:
    training: list[BuiltRow]
    validation: list[BuiltRow]
    repeats: Repeats


def chat_row(turns: Iterable[tuple[str, str]], answer: str) -> ChatExample:
    return ChatExample([*_turns(turns), ChatTurn("assistant", answer)])


def preference_row(turns: Iterable[tuple[str, str]], *, preferred: str, other: str) -> PreferencePair:
    """OpenAI's row for DPO."""
    return PreferencePair(
        PreferenceInput(_turns(turns)), [ChatTurn("assistant", preferred)], [ChatTurn("assistant", other)]
    )


def build(rows: Sequence[BuiltRow], *, validation_share: float) -> Dataset:
    """Without exact and near repeats, of which the first row stays. A question is always on the same side."""
    texts = _texts(rows)
    repeats = find_repeats(texts)
    repeated = {repeat.number for repeat in (*repeats.exact, *repeats.near)}
    training: list[BuiltRow] = []
    validation: list[BuiltRow] = []
    for row, text in zip(rows, texts, strict=True):
        if text.number not in repeated:
            (validation if _falls_below(validation_share, text.asked) else training).append(row)
    return Dataset(training, validation, repeats)


def write(rows: Sequence[BuiltRow], path: Path) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def validation_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.validation{path.suffix}")


def describe(rows: Sequence[BuiltRow]) -> list[tuple[str, str]]:
    """Lines for a person: rows, length, personal data."""
    texts = _texts(rows)
    lengths = sorted(estimate_tokens(text.whole) for text in texts) or [0]
    found = search_personal_data(texts)
    lines = [
        ("rows", f"{len(rows):,}" + (f" (a job needs {MIN_ROWS})" if len(rows) < MIN_ROWS else "")),
        ("tokens, about", f"{sum(lengths):,}; a row {median(lengths):,.0f}, at most {lengths[-1]:,}"),
        ("personal data", describe_kinds(found.counts)),
    ]
    if found.searched_rows < len(rows):
        lines.append(("", f"searched in the first {found.searched_rows:,} rows"))
    return lines


def describe_kinds(counts: Counter[str] | Counter[object]) -> str:
    told = ", ".join(f"{count} × {str(kind).replace('_', ' ')}" for kind, count in counts.most_common())
    return told or "none found"


def _texts(rows: Sequence[BuiltRow]) -> list[RowText]:
    return [RowText.of(NumberedRow(number, row)) for number, row in enumerate(rows, start=1)]


def _turns(turns: Iterable[tuple[str, str]]) -> list[ChatTurn]:
    return [msgspec.convert({"role": role, "content": content}, ChatTurn) for role, content in turns]


def _falls_below(share: float, text: str) -> bool:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") < share * 2**64
