"""Counterfactual data augmentation: rows about women are learnt about men too, and the other way round.

After Lu et al., "Gender Bias in Neural Natural Language Processing", 2018, and Hall Maudslay et al., "It's All in the
Name", 2019, with words of our own (data/counterfactual.yaml). English only. "her" is "his" before a noun and "him"
elsewhere, "his" is "her" before a noun and "hers" elsewhere; whether a noun follows is told by the next word alone, so
"I told her stories" goes wrong. Rows that may be about somebody real, by a name of two words, stay as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from contracts.chat_dataset import ChatExample, ChatTurn
from contracts.datasets import NumberedRow

WORDS = Path(__file__).with_name("data") / "counterfactual.yaml"
_WORD = re.compile(r"[^\W\d_]+")
_NEXT_WORD = re.compile(r"[ \t]+([^\W\d_]+)")
_FULL_NAME = re.compile(r"\b(?!(?:Mr|Mrs|Ms|The|A|An|My|Our|In|On|At|Dear|When|If|And|But|So)\b)[A-Z]\w+ [A-Z]\w+")


@dataclass(frozen=True, slots=True)
class _Words:
    swapped: dict[str, str]
    names: dict[str, str]
    only_of_one: frozenset[str]
    no_noun_follows: frozenset[str]


def with_counterfactuals(rows: Sequence[NumberedRow]) -> list[NumberedRow]:
    """The rows, and after them the copies of those that speak of women or men; a copy has its row's number."""
    copies = [
        NumberedRow(numbered.number, copy)
        for numbered in rows
        if isinstance(numbered.row, ChatExample) and (copy := counterfactual(numbered.row)) is not None
    ]
    return [*rows, *copies]


def counterfactual(row: ChatExample) -> ChatExample | None:
    """None for a row that says nothing of women or men, or that would not be true the other way round."""
    texts = [turn.content for turn in row.messages]
    if any(_FULL_NAME.search(text) for text in texts) or any(_is_of_one(text) for text in texts):
        return None
    swapped = [swap(text) for text in texts]
    if swapped == texts:
        return None
    return ChatExample([ChatTurn(turn.role, text) for turn, text in zip(row.messages, swapped, strict=True)])


def swap(text: str) -> str:
    """Every word for its counterpart, written as it was: `She` for `He`, `SHE` for `HE`."""
    return _WORD.sub(lambda found: _counterpart(found, text), text)


def _counterpart(found: re.Match[str], text: str) -> str:
    word, words = found[0], _words()
    if word in words.names:
        return words.names[word]
    lower = word.lower()
    if lower == "him":
        return _written_as(word, "her")
    if lower in ("her", "his"):
        before_noun = _noun_follows(text[found.end() :])
        other = ("his" if before_noun else "him") if lower == "her" else ("her" if before_noun else "hers")
        return _written_as(word, other)
    return _written_as(word, words.swapped[lower]) if lower in words.swapped else word


def _noun_follows(rest: str) -> bool:
    following = _NEXT_WORD.match(rest)
    return following is not None and following[1].lower() not in _words().no_noun_follows


def _is_of_one(text: str) -> bool:
    return any(word.lower() in _words().only_of_one for word in _WORD.findall(text))


def _written_as(word: str, other: str) -> str:
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other


@cache
def _words() -> _Words:
    told = yaml.safe_load(WORDS.read_text())
    swapped = {one.lower(): other for pair in told["pairs"] for one, other in (pair, pair[::-1])}
    return _Words(
        swapped=swapped | {word.lower(): other for word, other in told["also"].items()},
        names={one: other for pair in told["names"] for one, other in (pair, pair[::-1])},
        only_of_one=frozenset(told["only_of_one"]),
        no_noun_follows=frozenset(str(word).lower() for word in told["no_noun_follows"]),
    )
