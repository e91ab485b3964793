import json
from collections.abc import Iterable
from typing import Any

import pytest

from contracts.chat_dataset import MAX_ROW_BYTES, ChatExample, parse_chat_examples
from contracts.errors import InvalidTrainingFile

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def rows(*replaced: tuple[int, bytes], count: int = 12) -> list[bytes]:
    lines = [json.dumps(GOOD).encode() + b"\n"] * count
    for number, line in replaced:
        lines[number - 1] = line
    return lines


def parse(lines: Iterable[bytes]) -> list[ChatExample]:
    return list(parse_chat_examples(lines))


def turns(*messages: tuple[str, Any]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]}).encode()


def test_a_good_file_gives_its_examples() -> None:
    examples = parse(rows())
    assert len(examples) == 12
    assert examples[0].messages[-1].content == "Hello"


def test_blank_lines_are_left_out() -> None:
    assert len(parse(rows((3, b"\n"), (7, b"  \r\n")))) == 10


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "malformed"),
        (b"\xff\xfe", "malformed|utf-8|invalid"),
        (b"[]", "array"),
        (b"{}", "messages"),
        (b'{"messages": []}', "assistant"),
        (b'{"messages": [], "weight": 1}', "unknown field"),
        (turns(("user", "Hi")), "assistant"),
        (turns(("assistant", "Hello")), "user"),
        (turns(("robot", "Hi"), ("assistant", "Hello")), "robot"),
        (turns(("user", 7), ("assistant", "Hello")), "str"),
        (turns(("user", " "), ("assistant", "Hello")), r"messages\[0\]"),
        (turns(("user", "Hi"), ("system", "Be kind."), ("assistant", "Hello")), "system"),
        (turns(("user", "x" * MAX_ROW_BYTES), ("assistant", "Hello")), "longer"),
    ],
)
def test_a_broken_row_is_named_with_what_is_wrong(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidTrainingFile, match=f"(?i)Row 7 .*({reason})") as caught:
        parse(rows((7, line)))
    assert caught.value.param == "file"


def test_rows_are_counted_as_an_editor_counts_lines() -> None:
    with pytest.raises(InvalidTrainingFile, match="Row 7 "):
        parse(rows((2, b"\n"), (7, b"{")))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidTrainingFile, match="9 examples"):
        parse(rows(count=9))
    with pytest.raises(InvalidTrainingFile, match="0 examples"):
        parse([])
