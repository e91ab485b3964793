import json
from typing import Any

import pytest

from contracts.chat_dataset import ChatExample, ChatTurn
from contracts.datasets import NumberedRow, RowKind, read_rows
from contracts.errors import InvalidTrainingFile

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}
NO = {"role": "assistant", "content": "No"}
PREFERENCE = {"input": {"messages": [USER]}, "preferred_output": [ASSISTANT], "non_preferred_output": [NO]}
TAGGED = {"tokens": ["Anna", "left"], "ner_tags": ["B-PER", "O"]}


def read(*rows: Any, filename: str = "rows.jsonl") -> tuple[RowKind, list[NumberedRow]]:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows]
    kind, found = read_rows(lines, filename=filename)
    return kind, list(found)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [USER, ASSISTANT]}, "chat"),
        ({"prompt": "a", "completion": "b"}, "pairs"),
        ({"instruction": "a", "output": "b"}, "pairs"),
        (PREFERENCE, "preferences"),
        ({"messages": [USER], "answer": 42}, "prompts"),
        ({"text": "a"}, "text"),
        ({"text": "a", "label": "b"}, "labels"),
        (TAGGED, "tags"),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_rows(row: dict[str, Any], kind: RowKind) -> None:
    found, rows = read(*[row] * 10)
    assert found == kind
    assert [numbered.number for numbered in rows] == list(range(1, 11))


def test_pairs_become_chats() -> None:
    _, rows = read(*[{"instruction": "Translate.", "input": "Aye", "output": "Yes"}] * 10)
    assert rows[0].row == ChatExample([ChatTurn("user", "Translate.\n\nAye"), ChatTurn("assistant", "Yes")])


def test_plain_text_is_one_row() -> None:
    kind, rows = read(b"one\n", b"\n", b"two\n", filename="book.TXT")
    assert (kind, len(rows)) == ("text", 1)
    assert rows[0].row.text == "one\n\ntwo\n"


def test_rows_are_numbered_as_an_editor_counts_lines() -> None:
    chats = [{"messages": [USER, ASSISTANT]}] * 9
    assert [numbered.number for numbered in read(b"\n", *chats, b"\n", chats[0])[1]] == [*range(2, 11), 12]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": " "},
        {"prompt": "a", "completion": "b", "weight": 1},
        {**PREFERENCE, "non_preferred_output": [ASSISTANT]},
        {**PREFERENCE, "preferred_output": [ASSISTANT, ASSISTANT]},
        {**PREFERENCE, "input": {"messages": [USER, ASSISTANT]}},
        {"messages": [{"role": "user", "content": " "}], "answer": 1},
        {"text": ""},
        {"text": "a", "label": 3},
        {**TAGGED, "ner_tags": ["B-PER"]},
        {**TAGGED, "ner_tags": ["PER", "O"]},
        b"[1]\n",
    ],
)
def test_a_broken_row_is_named(row: Any) -> None:
    good = {
        "completion": {"prompt": "a", "completion": "b"},
        "preferred_output": PREFERENCE,
        "messages": {"messages": [USER]},
        "label": {"text": "a", "label": "b"},
        "text": {"text": "a"},
        "ner_tags": TAGGED,
    }
    first = next((example for field, example in good.items() if isinstance(row, dict) and field in row), TAGGED)
    with pytest.raises(InvalidTrainingFile, match="Row 3 "):
        read(first, first, row, *[first] * 9)


@pytest.mark.parametrize("content", [[b""], [b"\n"], [{"text": "a", "label": "b"}] * 9])
def test_too_few_rows_are_refused(content: list[Any]) -> None:
    with pytest.raises(InvalidTrainingFile, match="examples"):
        read(*content)


@pytest.mark.parametrize("content", [[b""], [b" \n"], [b"\xff\xfe"]])
def test_plain_text_must_be_there_and_be_utf_8(content: list[Any]) -> None:
    with pytest.raises(InvalidTrainingFile):
        read(*content, filename="book.txt")
