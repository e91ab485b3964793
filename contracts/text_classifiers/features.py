"""From a text to the hashed n-grams that the classifiers weigh.

Every n-gram's hash comes from one running sum (Karp and Rabin, 1987), so that numpy does all of a window in a few
calls. Unsigned sums wrap at 2^64 on purpose.
"""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 17
# A toxic sentence in a long text is judged by itself: a text is cut into windows of characters that overlap by half.
WINDOW = 480

# Composing takes the square of how many marks a letter has, so it is done by pieces. A ligature may become 18 letters.
_PIECE = 240
_MOST_GROWTH = 4

_CHARACTER_NGRAMS = (3, 4, 5)
_WORD_NGRAMS = (1, 2, 3)
_BASE = 0x9E3779B97F4A7C15
_MODULUS = 1 << 64
_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)
_MIX = np.uint64(0xD6E8FEB86659FD93)

_LENGTHENED = re.compile(r"(.)\1{2,}")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]"
)


def _powers(base: int) -> NDArray[np.uint64]:
    powers, power = [], 1
    for _ in range(WINDOW + 2):
        powers.append(power)
        power = power * base % _MODULUS
    return np.array(powers, dtype=np.uint64)


_POWERS, _INVERSES = _powers(_BASE), _powers(pow(_BASE, -1, _MODULUS))
_IN_WORD = np.array([chr(code).isalnum() or chr(code) == "'" for code in range(128)])


def normalised(text: str) -> str:
    """One spelling for what looks alike: compatibility forms, case, unseen characters, spaces, letters drawn out."""
    seen = _UNSEEN.sub("", text)
    composed = "".join(_composed(seen[start : start + _PIECE]) for start in range(0, len(seen), _PIECE))
    return " ".join(_LENGTHENED.sub(r"\1\1", composed).split())


def _composed(piece: str) -> str:
    """As it is where it would grow too much: what is judged stays within a few times what was sent."""
    composed = unicodedata.normalize("NFKC", piece)
    return (composed if len(composed) <= _MOST_GROWTH * len(piece) else piece).casefold()


def windows(text: str) -> Iterator[str]:
    """The normalised text in windows of at most `WINDOW` characters; one, perhaps empty, where it is short."""
    plain = normalised(text)
    step = WINDOW // 2
    for start in range(0, max(1, len(plain) - step), step):
        yield plain[start : start + WINDOW]


def ngram_buckets(window: str) -> NDArray[np.int32]:
    """The distinct buckets, int32 in [0, BUCKETS), of a window's n-grams; empty for an empty window."""
    if not window:
        return np.empty(0, dtype=np.int32)
    codes = np.frombuffer(f" {window} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * _POWERS[: len(codes)], out=sums[1:])

    def hashed(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
        return (sums[ends] - sums[starts]) * _INVERSES[starts]

    found = []
    for length in _CHARACTER_NGRAMS:
        starts = np.arange(max(0, len(codes) - length + 1))
        found.append(_spread(hashed(starts, starts + length), salt=length))
    inside = np.where(codes < 128, _IN_WORD[np.minimum(codes, 127).astype(np.int64)], True)
    edges = np.flatnonzero(np.diff(inside.astype(np.int8))) + 1
    words = hashed(edges[::2], edges[1::2])
    for length in _WORD_NGRAMS:
        count = max(0, len(words) - length + 1)
        joined = np.zeros(count, dtype=np.uint64)
        for place in range(length):
            joined = joined * _MIX + words[place : place + count]
        found.append(_spread(joined, salt=100 + length))
    # By hand, since np.unique takes ten times as long for so few.
    ordered = np.sort(np.concatenate(found))
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _spread(hashes: NDArray[np.uint64], *, salt: int) -> NDArray[np.int32]:
    mixed = (hashes ^ np.uint64(salt * _BASE % _MODULUS)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return (mixed >> _SHIFT).astype(np.int32)
