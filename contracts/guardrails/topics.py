"""Finds blocked topics in texts, in time linear in the text whatever the patterns are (RE2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import re2

from contracts.guardrails.policy import Topic

PATTERN_LETTERS = 64
"""A match of a pattern is not told in pieces of a stream where it has no more letters than this."""
_GAP = r"[\s\pZ]{1,4}"
_GAP_LETTERS = 4
_EDGE = r"[^\pL\pN_]"
_MOST_BYTES = 32 << 20
NOTHING = "\n"
"""Stands for the beginning and the end of a text: a word begins after it and ends before it."""


class BadPattern(ValueError):
    """A regular expression that RE2 does not understand, that is too large, or that any text matches."""


@dataclass(frozen=True, slots=True)
class TopicFound:
    """`start` is where the words begin that are blocked."""

    topic: str
    start: int


class TopicFinder:
    """Costs one search a text, and one more for each topic where something is found."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        """Raises BadPattern."""
        self._each = [(topic.name, _compile(_either(topic))) for topic in topics]
        self._any = _compile("|".join(map(_either, topics)))
        if self._any.search(NOTHING) is not None:
            raise BadPattern("an empty text matches")
        self.longest_letters = max(map(_longest, topics))

    def find(self, text: str) -> TopicFound | None:
        """The first of the topics in a whole text."""
        found = self.find_between(f"{NOTHING}{text}{NOTHING}")
        return None if found is None else TopicFound(found.topic, max(0, found.start - len(NOTHING)))

    def find_between(self, text: str) -> TopicFound | None:
        """As `find`, but the first and the last letter are only looked at as a word's neighbours."""
        if self._any.search(text) is None:
            return None
        found = [
            TopicFound(name, match.start(match.lastindex))
            for name, pattern in self._each
            if (match := pattern.search(text)) is not None
        ]
        return min(found, key=lambda each: each.start)


def _either(topic: Topic) -> str:
    """Each alternative is a group, so that the last index tells where the words begin."""
    ways = [f"({pattern})" for pattern in topic.patterns]
    if topic.terms:
        terms = "|".join(_GAP.join(map(re2.escape, term.split())) for term in topic.terms)
        ways.append(f"{_EDGE}({terms}){_EDGE}")
    return "|".join(ways)


def _longest(topic: Topic) -> int:
    terms = [len(term) + _GAP_LETTERS * term.count(" ") + 2 for term in topic.terms]
    return max([*terms, PATTERN_LETTERS if topic.patterns else 0])


def _compile(pattern: str) -> "re2._Regexp[str]":
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MOST_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise BadPattern(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
