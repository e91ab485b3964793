"""A text of an answer on its way through the guardrails, whole or in pieces."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Literal

from contracts.guardrails.topics import NOTHING, TopicFinder
from contracts.personal_data import Kind, PieceRedactor, redact
from gateway.guardrails.guards import Guards
from gateway.guardrails.request_texts import json_with_texts

Blocked = tuple[Literal["topic", "moderation"], str]
JUDGE_EVERY_LETTERS = 240
JUDGED_LETTERS = 960


class SaidText(ABC):
    """`blocked` is the topic or category that ended the text, once one did."""

    blocked: Blocked | None = None

    @property
    @abstractmethod
    def masked(self) -> Counter[Kind]:
        """What was taken out so far."""

    @abstractmethod
    def feed(self, piece: str, *, last: bool = False) -> str:
        """What can be told now; with the `last` piece, all the rest."""


class PlainText(SaidText):
    """Language. Holds back what may begin a blocked topic, and what may be personal data.

    Of a blocked topic no word is told. What a classifier finds harmful it finds once it was said: some 240 letters of
    it may be told in a stream.
    """

    def __init__(self, guards: Guards) -> None:
        self._judge = _Judge(guards) if guards.judges_output else None
        self._topics = None if guards.output_topics is None else _TopicWatch(guards.output_topics)
        self._redactor = None if guards.masked_output is None else PieceRedactor(guards.masked_output)

    @property
    def masked(self) -> Counter[Kind]:
        return Counter() if self._redactor is None else self._redactor.counts

    def feed(self, piece: str, *, last: bool = False) -> str:
        if self._judge is not None and (category := self._judge.hear(piece, last=last)) is not None:
            self.blocked = ("moderation", category)
            return ""
        if self._topics is not None:
            piece = self._topics.feed(piece, last=last)
            self.blocked = None if self._topics.blocked is None else ("topic", self._topics.blocked)
        if self._redactor is None:
            return piece
        return self._redactor.feed(piece, last=last or self.blocked is not None)


class JsonText(SaidText):
    """JSON, told at its end: only a whole value can be changed and stay JSON."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._pieces: list[str] = []
        self._masked: Counter[Kind] = Counter()

    @property
    def masked(self) -> Counter[Kind]:
        return self._masked

    def feed(self, piece: str, *, last: bool = False) -> str:
        self._pieces.append(piece)
        if not last:
            return ""
        text = "".join(self._pieces)
        self._pieces.clear()
        if self._guards.output_topics is not None:
            json_with_texts(text, self._look)
        if self._guards.judges_output and (category := self._guards.harmful(text)) is not None:
            self.blocked = ("moderation", category)
        if self.blocked is not None:
            return ""
        return text if self._guards.masked_output is None else json_with_texts(text, self._mask)

    def _look(self, text: str) -> str:
        assert self._guards.output_topics is not None
        if (found := self._guards.output_topics.find(text)) is not None:
            self.blocked = ("topic", found.topic)
        return text

    def _mask(self, text: str) -> str:
        assert self._guards.masked_output is not None
        redacted = redact(text, self._guards.masked_output)
        self._masked.update(redacted.counts)
        return redacted.text


class _Judge:
    """Judges what was said last, every so many letters and at the end; a whole text whole."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._heard = ""
        self._new_letters = 0

    def hear(self, piece: str, *, last: bool) -> str | None:
        self._heard += piece
        self._new_letters += len(piece)
        if self._new_letters < JUDGE_EVERY_LETTERS and not (last and self._new_letters):
            return None
        category = self._guards.harmful(self._heard)
        self._heard, self._new_letters = self._heard[-JUDGED_LETTERS:], 0
        return category


class _TopicWatch:
    """Holds back as many letters as the longest term has."""

    def __init__(self, finder: TopicFinder) -> None:
        self._finder = finder
        self._text = NOTHING
        self._told = len(NOTHING)
        self.blocked: str | None = None

    def feed(self, piece: str, *, last: bool) -> str:
        self._text += piece
        text = self._text + NOTHING if last else self._text
        found = self._finder.find_between(text)
        if found is not None:
            self.blocked = found.topic
        sure = max(0, len(self._text) - self._finder.longest_letters)
        end = max(self._told, len(self._text) if last else sure)
        if found is not None:
            end = max(self._told, found.start)
        told = self._text[self._told : end]
        forget = max(0, end - self._finder.longest_letters)
        self._text, self._told = self._text[forget:], end - forget
        return told
