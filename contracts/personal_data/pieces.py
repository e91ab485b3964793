"""Takes personal data out of a text that comes in pieces, such as a streamed answer."""

import re
from collections import Counter
from collections.abc import Collection

from contracts.personal_data.detectors import BIRTH_LABEL, KEY_BEGINS, KEY_ENDS, NAME_BEGINS, NAME_GOES_ON, NAME_LABEL
from contracts.personal_data.find import find_personal_data, placeholder
from contracts.personal_data.kinds import KINDS, Kind

CONTEXT_LETTERS = 128
"""Of what was told already: as far back as the words reach that announce something ("my name is")."""
MOST_HELD_LETTERS = 24 * 1024
"""More than the longest form that is looked for."""
WORD_LETTERS = 129
"""The longest part of an address that may hold letters beyond ASCII, where words have no spaces between them."""
SPACED_LETTERS = 224
"""The longest form that holds spaces, with the words that announce it."""
_NAME = f"{NAME_BEGINS}{NAME_GOES_ON}{{0,30}}"
_MAY_GO_ON = (
    re.compile(r"[+(]?\d(?:[ ()./:-]{0,3}[\dAB]){0,18}[ ()./:-]{0,3}\Z"),  # numbers of all kinds
    re.compile(
        r"(?<!\w)[A-Z]{2}(?:\d{2}(?: ?[A-Z0-9]){0,30}|(?: ?\d{2}){0,3}(?: ?\d)?)? ?\Z", re.IGNORECASE
    ),  # IBAN, NI number
    re.compile(rf"{NAME_LABEL}(?P<value>(?:{_NAME}(?: {_NAME}){{0,2}} ?)?\Z)"),
    re.compile(rf"{BIRTH_LABEL}(?P<value>[\w.,/ -]{{0,32}}\Z)", re.IGNORECASE),
    re.compile(r"-----BEGIN[A-Z ]{0,34}-{0,5}\Z"),
)
"""What a piece may end with, that the next piece may make personal data of. Beside the last word, which always may."""
_KEY_BEGINS, _KEY_ENDS = re.compile(KEY_BEGINS), re.compile(KEY_ENDS)
_KEY_END_LETTERS = 48


class PieceRedactor:
    """Tells a text on as `redact` would make it of the whole, holding back what is not decided yet.

    That is the last word, and more than that only where numbers or words that announce something stand at the end; at
    most `MOST_HELD_LETTERS`. Costs a search through what came since and the last 128 letters, where a word ended.
    """

    def __init__(self, kinds: Collection[Kind] = KINDS) -> None:
        self._kinds = kinds
        self._text = ""
        self._told = 0  # letters of `_text` that were told
        self._in_key = False
        self.counts: Counter[Kind] = Counter()

    def feed(self, piece: str, *, last: bool = False) -> str:
        """What can be told now; with the `last` piece, all the rest."""
        self._text += piece
        if self._in_key and not self._leave_key():
            return ""
        decided = len(self._text) if last else self._decided()
        return self._tell(decided, last=last) if decided > self._told else ""

    def _decided(self) -> int:
        """Letters of the text that nothing that follows can make part of personal data, or of none."""
        text = self._text
        begin = max(text.rfind(" "), text.rfind("\n"), text.rfind("\t")) + 1
        if not text.isascii():
            begin = max(begin, _without_ascii_word(text, begin) - WORD_LETTERS)
        if len(text) - begin > MOST_HELD_LETTERS:
            begin = len(text) - MOST_HELD_LETTERS // 2
        tail = max(0, len(text) - SPACED_LETTERS)
        for form in _MAY_GO_ON:
            if (match := form.search(text, tail)) is not None:
                begin = min(begin, match.start("value") if "value" in form.groupindex else match.start())
        return begin

    def _tell(self, decided: int, *, last: bool) -> str:
        text, at = self._text, self._told
        parts: list[str] = []
        for finding in find_personal_data(text, self._kinds):
            if finding.end <= at:
                continue
            open_key = finding.end == len(text) and self._is_open_key(finding.start)
            if finding.start >= decided or (finding.end > decided and not open_key):
                decided = min(decided, max(at, finding.start))
                break
            parts += [text[at : max(at, finding.start)], placeholder(finding.kind)]
            self.counts[finding.kind] += 1
            at = finding.end
            if open_key and not last:
                self._in_key = True
                break
        parts.append(text[at:decided])
        self._told = max(at, decided)
        self._forget(max(0, self._told - CONTEXT_LETTERS))
        return "".join(parts)

    def _is_open_key(self, begin: int) -> bool:
        """Whether a private key begins here whose end has not come."""
        return _KEY_BEGINS.match(self._text, begin) is not None and _KEY_ENDS.search(self._text, begin) is None

    def _leave_key(self) -> bool:
        end = _KEY_ENDS.search(self._text)
        if end is None:
            self._forget(max(0, len(self._text) - _KEY_END_LETTERS))
            return False
        self._in_key, self._told = False, end.end()
        return True

    def _forget(self, letters: int) -> None:
        self._text = self._text[letters:]
        self._told = max(0, self._told - letters)


def _without_ascii_word(text: str, begin: int) -> int:
    """Where the ASCII letters begin that the text ends with."""
    at = len(text)
    while at > begin and text[at - 1].isascii():
        at -= 1
    return at
