"""The fine-tuning file: JSON Lines, each row `{"messages": [{"role", "content"}, …]}` (OpenAI's chat format)."""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from contracts.errors import InvalidTrainingFile

MIN_ROWS = 10
MAX_ROW_BYTES = 1 << 20


class ChatTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatExample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One conversation. The last turn is the assistant's: it is what the model learns to say."""

    messages: list[ChatTurn]


def parse_chat_examples(lines: Iterable[bytes]) -> Iterator[ChatExample]:
    """Yields the examples of a file, blank lines left out.

    Raises InvalidTrainingFile that names the row (counted from 1, as an editor counts lines) and what is wrong.
    """
    decoder = msgspec.json.Decoder(ChatExample)
    rows = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > MAX_ROW_BYTES:
            raise _invalid(number, f"the row is longer than {MAX_ROW_BYTES} bytes")
        try:
            example = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _invalid(number, str(error)) from None
        _check_turns(number, example.messages)
        rows += 1
        yield example
    if rows < MIN_ROWS:
        raise InvalidTrainingFile(f"The file has {rows} examples; at least {MIN_ROWS} are needed.", param="file")


def _check_turns(number: int, turns: list[ChatTurn]) -> None:
    if not turns or turns[-1].role != "assistant":
        raise _invalid(number, "the last message must be the assistant's")
    if not any(turn.role == "user" for turn in turns):
        raise _invalid(number, "there is no user message")
    for position, turn in enumerate(turns):
        if turn.role == "system" and position != 0:
            raise _invalid(number, "a system message must come first")
        if not turn.content.strip():
            raise _invalid(number, f"`messages[{position}].content` is empty")


def _invalid(number: int, reason: str) -> InvalidTrainingFile:
    return InvalidTrainingFile(f"Row {number} of the file is not a valid example: {reason}.", param="file")
