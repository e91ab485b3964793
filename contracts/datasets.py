"""Rows of training files, a kind for each method. A file is JSON Lines of one kind, or plain text (`.txt`).

chat         {"messages": [{"role", "content"}, …]}, the last message the assistant's (contracts/chat_dataset.py)
pairs        {"prompt", "completion"} or {"instruction", "input", "output"}
preferences  {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}, as OpenAI's
prompts      {"messages": […], …}, the last message the user's; graders may use the other fields
text         {"text"}, or a file of plain text
labels       {"text", "label"}
tags         {"tokens": […], "ner_tags": ["O", "B-PER", …]}
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

from contracts.chat_dataset import MAX_ROW_BYTES, MIN_ROWS, ChatExample, ChatTurn, parse_chat_examples
from contracts.errors import InvalidTrainingFile

RowKind = Literal["chat", "pairs", "preferences", "prompts", "text", "labels", "tags"]
PLAIN_TEXT = ".txt"
MAX_LABELS = 1000


class CompletionPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: str
    completion: str


class InstructionPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instruction: str
    output: str
    input: str = ""


class PreferenceInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: list[ChatTurn]


class PreferencePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: PreferenceInput
    preferred_output: list[ChatTurn]
    non_preferred_output: list[ChatTurn]


class PromptRow(msgspec.Struct, frozen=True):
    """`item` holds the whole row, for templates."""

    messages: list[ChatTurn]
    item: dict[str, Any]


class TextRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class LabelRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    label: str


class TagsRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: list[str]
    ner_tags: list[str]


Row = ChatExample | PreferencePair | PromptRow | TextRow | LabelRow | TagsRow
"""What a worker sees. Pairs come as chats."""


class NumberedRow(msgspec.Struct, frozen=True):
    """`number` counts lines from 1, as an editor does."""

    number: int
    row: Row


def kind_of(first_line: bytes) -> RowKind:
    """The kind of a file by its first row. What cannot be told is taken for a chat, whose checks then say more."""
    try:
        row = msgspec.json.decode(first_line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "chat"
    if not isinstance(row, dict):
        return "chat"
    if "messages" in row:
        return "prompts" if _ends_with_user(row["messages"]) else "chat"
    signs: tuple[tuple[str, RowKind], ...] = (
        ("preferred_output", "preferences"),
        ("completion", "pairs"),
        ("output", "pairs"),
        ("label", "labels"),
        ("ner_tags", "tags"),
        ("text", "text"),
    )
    return next((kind for field, kind in signs if field in row), "chat")


def read_rows(lines: Iterable[bytes], *, filename: str) -> tuple[RowKind, Iterator[NumberedRow]]:
    """The kind of a file, and its rows as they are read.

    The iterator raises InvalidTrainingFile that names the row, or says how many are missing. One row is in memory at a
    time, but a file of plain text is one row.
    """
    if filename.lower().endswith(PLAIN_TEXT):
        return "text", _plain_text(lines)
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise _too_few(0)
    kind, rest = kind_of(first[1]), itertools.chain([first], numbered)
    if kind == "chat":
        return kind, _chats(rest)
    return kind, _checked(rest, _PARSERS[kind], least=1 if kind == "text" else MIN_ROWS)


def _chats(numbered: Iterable[tuple[int, bytes]]) -> Iterator[NumberedRow]:
    """Blank lines are put back, so that rows are counted as they stand in the file."""
    numbers: list[int] = []

    def with_gaps() -> Iterator[bytes]:
        last = 0
        for number, line in numbered:
            yield from itertools.repeat(b"\n", number - last - 1)
            numbers.append(number)
            last = number
            yield line

    for position, example in enumerate(parse_chat_examples(with_gaps())):
        yield NumberedRow(numbers[position], example)


def _checked(
    numbered: Iterable[tuple[int, bytes]], parse: Callable[[bytes], Row], *, least: int
) -> Iterator[NumberedRow]:
    rows = 0
    for number, line in numbered:
        if len(line) > MAX_ROW_BYTES:
            raise _invalid(number, f"the row is longer than {MAX_ROW_BYTES} bytes")
        try:
            row = parse(line)
        except (msgspec.DecodeError, UnicodeDecodeError, _NotValid) as error:
            raise _invalid(number, str(error)) from None
        rows += 1
        yield NumberedRow(number, row)
    if rows < least:
        raise _too_few(rows)


def _plain_text(lines: Iterable[bytes]) -> Iterator[NumberedRow]:
    decoded: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            decoded.append(line.decode())
        except UnicodeDecodeError:
            raise _invalid(number, "it is not UTF-8") from None
    if not (text := "".join(decoded)).strip():
        raise InvalidTrainingFile("The file has no text.", param="file")
    yield NumberedRow(1, TextRow(text))


class _NotValid(Exception):
    pass


def _completion_or_instruction(line: bytes) -> ChatExample:
    if b'"completion"' in line:
        pair = msgspec.json.decode(line, type=CompletionPair)
        prompt, answer = pair.prompt, pair.completion
    else:
        task = msgspec.json.decode(line, type=InstructionPair)
        prompt, answer = "\n\n".join(filter(None, (task.instruction, task.input))), task.output
    if not prompt.strip() or not answer.strip():
        raise _NotValid("the prompt or the answer is empty")
    return ChatExample([ChatTurn("user", prompt), ChatTurn("assistant", answer)])


def _preference(line: bytes) -> PreferencePair:
    pair = msgspec.json.decode(line, type=PreferencePair)
    if not _ends_with_user([{"role": turn.role} for turn in pair.input.messages]):
        raise _NotValid("the last of `input.messages` must be the user's")
    for name, output in (("preferred", pair.preferred_output), ("non_preferred", pair.non_preferred_output)):
        if len(output) != 1 or output[0].role != "assistant" or not output[0].content.strip():
            raise _NotValid(f"`{name}_output` must be one message of the assistant")
    if pair.preferred_output == pair.non_preferred_output:
        raise _NotValid("both outputs are the same")
    return pair


def _prompt(line: bytes) -> PromptRow:
    item = msgspec.json.decode(line, type=dict[str, Any])
    messages = msgspec.convert(item.get("messages", []), list[ChatTurn])
    if not _ends_with_user(item.get("messages")):
        raise _NotValid("the last message must be the user's")
    if any(not turn.content.strip() for turn in messages):
        raise _NotValid("a message is empty")
    return PromptRow(messages, item)


def _text(line: bytes) -> TextRow:
    row = msgspec.json.decode(line, type=TextRow)
    if not row.text.strip():
        raise _NotValid("`text` is empty")
    return row


def _label(line: bytes) -> LabelRow:
    row = msgspec.json.decode(line, type=LabelRow)
    if not row.text.strip() or not row.label.strip():
        raise _NotValid("`text` or `label` is empty")
    return row


def _tags(line: bytes) -> TagsRow:
    row = msgspec.json.decode(line, type=TagsRow)
    if not row.tokens or len(row.tokens) != len(row.ner_tags):
        raise _NotValid(f"it has {len(row.tokens)} tokens and {len(row.ner_tags)} tags")
    if strange := next((tag for tag in row.ner_tags if tag != "O" and tag[:2] not in ("B-", "I-")), None):
        raise _NotValid(f"`{strange}` is not a tag such as `O`, `B-PER` or `I-PER`")
    return row


_PARSERS: dict[RowKind, Callable[[bytes], Row]] = {
    "pairs": _completion_or_instruction,
    "preferences": _preference,
    "prompts": _prompt,
    "text": _text,
    "labels": _label,
    "tags": _tags,
}


def _ends_with_user(messages: Any) -> bool:
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "user"


def _too_few(rows: int) -> InvalidTrainingFile:
    return InvalidTrainingFile(f"The file has {rows} examples; at least {MIN_ROWS} are needed.", param="file")


def _invalid(number: int, reason: str) -> InvalidTrainingFile:
    return InvalidTrainingFile(f"Row {number} of the file is not a valid example: {reason}.", param="file")
