"""Which texts are trained on. Texts that share eight words in a row, or a group, stay on one side."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

from workers.evaluate.text_classifiers.corpus import Text

HELD_OUT_SHARE = 0.25
_SHINGLE = 8
_LARGEST = 100
"""A cluster of more texts than this is trained on: by itself it would be a third of what is held out."""


def split(texts: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """What is trained on and what is held out; the same texts are always split the same way."""
    clusters: dict[int, list[int]] = defaultdict(list)
    for place, root in enumerate(_clusters(texts)):
        clusters[root].append(place)
    training, held_out = [], []
    for places in clusters.values():
        members = [texts[place] for place in places]
        (held_out if _is_held_out(members) else training).extend(members)
    return training, held_out


def folds_of(texts: Sequence[Text], *, folds: int) -> list[int]:
    """A fold for each text, the same for those that must stay together."""
    return [root * 2_654_435_761 % 2**32 % folds for root in _clusters(texts)]


def _is_held_out(members: Sequence[Text]) -> bool:
    decided = {member.held_out for member in members} - {None}
    if decided:
        return decided == {True}
    if len(members) > _LARGEST:
        return False
    digest = hashlib.sha256(min(member.text for member in members).encode()).digest()
    return digest[0] < HELD_OUT_SHARE * 256


def _clusters(texts: Sequence[Text]) -> list[int]:
    """For each text the first of its cluster's places."""
    parents = list(range(len(texts)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        words = re.findall(r"\w+", text.text.casefold())
        shingles = {" ".join(words[start : start + _SHINGLE]) for start in range(max(1, len(words) - _SHINGLE + 1))}
        for key in {*shingles, f"group {text.group}"} - {"group "}:
            first, second = root(place), root(seen.setdefault(key, place))
            parents[max(first, second)] = min(first, second)
    return [root(place) for place in range(len(texts))]
