"""Chats as token ids, with labels for what shall be learnt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.chat_dataset import ChatExample, ChatTurn
from contracts.datasets import NumberedRow
from workers.finetune.files import too_long

IGNORED = -100
"""The label of a token whose loss does not count (torch.nn.CrossEntropyLoss, `ignore_index`)."""


class ChatTokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    eos_token_id: int

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    input_ids: list[int]
    labels: list[int]


def tokenize_chats(
    rows: Iterable[NumberedRow], tokenizer: ChatTokenizer, *, context_length: int, all_answers: bool, param: str
) -> list[TokenizedExample]:
    """Token ids as the engine will see them, with labels on the last answer or on all answers.

    Raises JobFailed that names a row longer than the context.
    """
    tokenized = []
    for numbered in rows:
        assert isinstance(numbered.row, ChatExample)
        example = _tokenize(numbered.row.messages, tokenizer, all_answers=all_answers)
        if len(example.input_ids) > context_length:
            raise too_long(numbered.number, len(example.input_ids), context_length, param=param)
        tokenized.append(example)
    return tokenized


def chat_ids(turns: Sequence[ChatTurn], tokenizer: ChatTokenizer, *, add_generation_prompt: bool) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns],
        tokenize=True,
        return_dict=True,
        add_generation_prompt=add_generation_prompt,
    )
    return list(encoded["input_ids"])


def answer_ids(turns: Sequence[ChatTurn], tokenizer: ChatTokenizer) -> tuple[list[int], list[int]]:
    """The tokens before the last answer, and those of the answer up to its end.

    A template may write the beginning of an answer differently than the prompt for one: they part where they differ.
    """
    prompt = chat_ids(turns[:-1], tokenizer, add_generation_prompt=True)
    whole = chat_ids(turns, tokenizer, add_generation_prompt=False)
    whole = _until_end_of_answer(whole, tokenizer.eos_token_id)
    position = _common_prefix(prompt, whole)
    return whole[:position], whole[position:]


def _tokenize(turns: Sequence[ChatTurn], tokenizer: ChatTokenizer, *, all_answers: bool) -> TokenizedExample:
    prompt, answer = answer_ids(turns, tokenizer)
    ids = [*prompt, *answer]
    labels = [IGNORED] * len(prompt) + answer
    if all_answers:
        for end, turn in enumerate(turns[:-1], start=1):
            if turn.role == "assistant":
                before, earlier = answer_ids(turns[:end], tokenizer)
                if ids[: len(before) + len(earlier)] == [*before, *earlier]:
                    labels[len(before) : len(before) + len(earlier)] = earlier
    return TokenizedExample(ids, labels)


def _until_end_of_answer(ids: list[int], end: int) -> list[int]:
    """Templates write a line break after the last answer, which the model never has to say."""
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else ids


def _common_prefix(prompt: list[int], whole: list[int]) -> int:
    for position, (expected, found) in enumerate(zip(prompt, whole, strict=False)):
        if expected != found:
            return position
    return min(len(prompt), len(whole))
