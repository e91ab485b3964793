"""Scores of labels: accuracy, F1, and the F1 of whole names as CoNLL counts them.

Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 shared task", 2003.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    kind: str
    start: int
    end: int


def accuracy(found: Sequence[object], wanted: Sequence[object]) -> float:
    return sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)


def macro_f1(found: Sequence[object], wanted: Sequence[object]) -> float:
    """The mean over the labels that occur, so that a rare label counts as much as a frequent one."""
    labels = set(found) | set(wanted)
    scores = []
    for label in labels:
        right = sum(one == other == label for one, other in zip(found, wanted, strict=True))
        scores.append(_f1(right, sum(one == label for one in found), sum(one == label for one in wanted)))
    return sum(scores) / len(scores)


def entity_f1(found: Iterable[Sequence[str]], wanted: Iterable[Sequence[str]]) -> float:
    """A name counts as found if its kind and both its ends are right."""
    right = told = there = 0
    for one, other in zip(found, wanted, strict=True):
        entities_found, entities_wanted = set(entities(one)), set(entities(other))
        right += len(entities_found & entities_wanted)
        told, there = told + len(entities_found), there + len(entities_wanted)
    return _f1(right, told, there)


def entities(tags: Sequence[str]) -> list[Entity]:
    """The names in tags such as `O`, `B-PER`, `I-PER`. An `I-` that continues nothing begins one, as in conlleval."""
    names: list[Entity] = []
    for position, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "I" and names and names[-1].end == position and names[-1].kind == kind:
            names[-1] = names[-1]._replace(end=position + 1)
        elif prefix in ("B", "I"):
            names.append(Entity(kind, position, position + 1))
    return names


def _f1(right: int, found: int, wanted: int) -> float:
    return 2 * right / (found + wanted) if found + wanted else 1.0
