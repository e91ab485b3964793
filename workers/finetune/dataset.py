"""From an uploaded file to token ids with labels."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contracts.chat_dataset import ChatExample, parse_chat_examples
from contracts.errors import InvalidTrainingFile
from store.artifacts import ArtifactStore
from workers.run import JobFailed

IGNORED = -100
"""The label of a token whose loss does not count (torch.nn.CrossEntropyLoss, `ignore_index`)."""


class ChatTokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    eos_token_id: int

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class NumberedExample:
    """`row` counts lines from 1, as an editor does."""

    row: int
    example: ChatExample


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    input_ids: list[int]
    labels: list[int]


def fetch_training_file(artifacts: ArtifactStore, artifact: str, target: Path, *, digest: str) -> None:
    """Copies the file to this machine. Raises JobFailed if it is gone or is not what the job was started with."""
    found = hashlib.sha256()
    try:
        with target.open("wb") as out:
            for chunk in artifacts.read(artifact):
                found.update(chunk)
                out.write(chunk)
    except FileNotFoundError:
        raise training_file_gone() from None
    if f"sha256:{found.hexdigest()}" != digest:
        message = "The training file is not the one that the job was created with. Upload it again."
        raise JobFailed("training_file_changed", message, param="training_file")


def training_file_gone() -> JobFailed:
    return JobFailed("training_file_not_found", "The training file does not exist any more.", param="training_file")


def read_examples(lines: Sequence[bytes]) -> list[NumberedExample]:
    """Raises JobFailed that names the broken row."""
    rows = [number for number, line in enumerate(lines, start=1) if line.strip()]
    try:
        examples = list(parse_chat_examples(lines))
    except InvalidTrainingFile as error:
        raise JobFailed("invalid_training_file", error.message, param="training_file") from None
    return [NumberedExample(row, example) for row, example in zip(rows, examples, strict=True)]


def tokenize(
    examples: Iterable[NumberedExample], tokenizer: ChatTokenizer, *, context_length: int
) -> list[TokenizedExample]:
    """Token ids as the engine will see them. Raises JobFailed that names a row longer than the context."""
    return [_tokenize(numbered, tokenizer, context_length) for numbered in examples]


def _tokenize(numbered: NumberedExample, tokenizer: ChatTokenizer, context_length: int) -> TokenizedExample:
    turns = [{"role": turn.role, "content": turn.content} for turn in numbered.example.messages]
    prompt = _ids(tokenizer, turns[:-1], add_generation_prompt=True)
    whole = _until_end_of_answer(_ids(tokenizer, turns, add_generation_prompt=False), tokenizer.eos_token_id)
    if len(whole) > context_length:
        message = (
            f"Row {numbered.row} of the training file is {len(whole)} tokens long; "
            f"the model's context is {context_length} tokens."
        )
        raise JobFailed("context_length_exceeded", message, param="training_file")
    learnt_from = _common_prefix(prompt, whole)
    return TokenizedExample(whole, [IGNORED] * learnt_from + whole[learnt_from:])


def _ids(tokenizer: ChatTokenizer, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        turns, tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt
    )
    return list(encoded["input_ids"])


def _until_end_of_answer(ids: list[int], end: int) -> list[int]:
    """Templates write a line break after the last answer, which the model never has to say."""
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else ids


def _common_prefix(prompt: list[int], whole: list[int]) -> int:
    for position, (expected, found) in enumerate(zip(prompt, whole, strict=False)):
        if expected != found:
            return position
    return min(len(prompt), len(whole))
