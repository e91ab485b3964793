"""What there is to say about a data set before anything is trained on it: repeats, leakage, personal data.

The same in `flywheel dataset` and in a job, before its training.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from rensa import RMinHash, RMinHashLSH

from contracts.chat_dataset import ChatExample, ChatTurn
from contracts.datasets import LabelRow, NumberedRow, PreferencePair, PromptRow, Row, TagsRow, TextRow
from contracts.personal_data import Kind, count_findings

SIMILAR = 0.8
"""Share of three-word pieces that two texts have in common, from which on they are near duplicates."""
PERMUTATIONS, BANDS, SEED = 128, 16, 1
PIECE_WORDS = 3
MOST_SEARCHED_LETTERS = 8 << 20
"""Personal data is searched in so many letters at most, which takes some seconds."""
BYTES_PER_TOKEN = 4
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class RowText:
    """A row as what was asked and what shall be said to it, without the system's turn, which many rows may share."""

    number: int
    asked: str
    said: str

    @classmethod
    def of(cls, numbered: NumberedRow) -> "RowText":
        return cls(numbered.number, *_asked_and_said(numbered.row))

    @property
    def whole(self) -> str:
        return f"{self.asked}\n{self.said}"

    @cached_property
    def words(self) -> list[str]:
        return _WORDS.findall(self.whole.casefold())

    @cached_property
    def digest(self) -> bytes:
        """The same for texts that differ only in case, spaces and punctuation."""
        return blake2b(" ".join(self.words).encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Repeat:
    """A row that says what an earlier one said."""

    number: int
    earlier: int


@dataclass(frozen=True, slots=True)
class Repeats:
    exact: list[Repeat] = field(default_factory=list)
    near: list[Repeat] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PersonalData:
    """How much of each kind was found, in which rows, and in how many rows was searched."""

    counts: Counter[Kind] = field(default_factory=Counter)
    rows: list[int] = field(default_factory=list)
    searched_rows: int = 0


class SeenTexts:
    """Remembers texts and recognises them again: exact by a digest, near by MinHash (Broder, 1997) in LSH bands.

    About 30 microseconds and 2 KB for a text of a hundred words.
    """

    def __init__(self) -> None:
        self._exact: dict[bytes, int] = {}
        self._sketches: list[tuple[RMinHash, int]] = []
        self._bands = RMinHashLSH(SIMILAR, PERMUTATIONS, BANDS)

    def add(self, text: RowText) -> None:
        self._exact.setdefault(text.digest, text.number)
        sketch = _sketch(text)
        self._bands.insert(len(self._sketches), sketch)
        self._sketches.append((sketch, text.number))

    def same_as(self, text: RowText) -> int | None:
        """The number of the text that is the same but for case, spaces and punctuation."""
        return self._exact.get(text.digest)

    def similar_to(self, text: RowText) -> int | None:
        """The number of a text that has `SIMILAR` of its pieces in common with this one."""
        sketch = _sketch(text)
        likely = (self._sketches[candidate] for candidate in sorted(self._bands.query(sketch)))
        return next((number for known, number in likely if known.jaccard(sketch) >= SIMILAR), None)


def find_repeats(texts: Iterable[RowText]) -> Repeats:
    seen, repeats = SeenTexts(), Repeats()
    for text in texts:
        if (earlier := seen.same_as(text)) is not None:
            repeats.exact.append(Repeat(text.number, earlier))
        elif (earlier := seen.similar_to(text)) is not None:
            repeats.near.append(Repeat(text.number, earlier))
        else:
            seen.add(text)
    return repeats


def find_leaks(training: Iterable[RowText], validation: Iterable[RowText]) -> Repeats:
    """Validation rows that the training will have seen: `earlier` is the training file's row."""
    seen, leaks = SeenTexts(), Repeats()
    for text in training:
        seen.add(text)
    for text in validation:
        if (earlier := seen.same_as(text)) is not None:
            leaks.exact.append(Repeat(text.number, earlier))
        elif (earlier := seen.similar_to(text)) is not None:
            leaks.near.append(Repeat(text.number, earlier))
    return leaks


def search_personal_data(texts: Sequence[RowText]) -> PersonalData:
    counts: Counter[Kind] = Counter()
    rows, searched_rows, letters = [], 0, 0
    for text in texts:
        letters += len(text.whole)
        if letters > MOST_SEARCHED_LETTERS and searched_rows:
            break
        searched_rows += 1
        if found := count_findings(text.whole):
            counts += found
            rows.append(text.number)
    return PersonalData(counts, rows, searched_rows)


def estimate_tokens(text: str) -> int:
    """Without a tokenizer: about a token for four bytes."""
    return len(text.encode()) // BYTES_PER_TOKEN + 1


def _sketch(text: RowText) -> RMinHash:
    words = text.words
    pieces = [" ".join(words[at : at + PIECE_WORDS]) for at in range(max(1, len(words) - PIECE_WORDS + 1))]
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    sketch.update(pieces)
    return sketch


def _asked_and_said(row: Row) -> tuple[str, str]:
    match row:
        case ChatExample(messages):
            return _contents(messages[:-1]), messages[-1].content
        case PreferencePair(input=asked, preferred_output=preferred):
            return _contents(asked.messages), preferred[0].content
        case PromptRow(messages):
            return _contents(messages), ""
        case TextRow(text):
            return text, ""
        case LabelRow(text, label):
            return text, label
        case TagsRow(tokens):
            return " ".join(tokens), ""


def _contents(turns: Sequence[ChatTurn]) -> str:
    return "\n".join(turn.content for turn in turns if turn.role != "system")
