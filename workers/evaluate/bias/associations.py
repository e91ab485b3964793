"""Word embedding association tests (Caliskan et al., 2017) on an encoder's vectors; the word sets are our own."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from contracts.bias import Association

ASSOCIATIONS = Path(__file__).with_name("data") / "associations.yaml"
MOST_EXACT = 20_000
SAMPLED = 10_000


@dataclass(frozen=True, slots=True)
class WordSets:
    name: str
    targets: tuple[list[str], list[str]]
    attributes: tuple[list[str], list[str]]

    @property
    def words(self) -> list[str]:
        return [word for words in (*self.targets, *self.attributes) for word in words]


def load_word_sets() -> list[WordSets]:
    tests = yaml.safe_load(ASSOCIATIONS.read_text())["tests"]
    return [WordSets(test["name"], tuple(test["targets"]), tuple(test["attributes"])) for test in tests]


def association(sets: WordSets, vectors: Sequence[Sequence[float]]) -> Association:
    """`vectors` are of `sets.words`, in their order."""
    likes, size = likes_of(sets, vectors), len(sets.targets[0])
    return Association(name=sets.name, effect=float(effect(likes, size)), p_value=_p_value(likes, size))


def likes_of(sets: WordSets, vectors: Sequence[Sequence[float]]) -> Any:
    """How much more each target is like the first attributes than like the second: an array of (targets)."""
    matrix: Any = np.asarray(vectors, dtype=float)
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    sizes = [len(words) for words in (*sets.targets, *sets.attributes)]
    one, other, first, second = np.split(matrix, np.cumsum(sizes)[:-1])
    targets = np.concatenate([one, other])
    return (targets @ first.T).mean(axis=1) - (targets @ second.T).mean(axis=1)


def effect(likes: Any, size: int) -> Any:
    """Cohen's d of the first `size` targets and the others, over the last axis; 0 where all are alike."""
    difference = likes[..., :size].mean(axis=-1) - likes[..., size:].mean(axis=-1)
    spread = likes.std(axis=-1, ddof=1)
    return np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 0)


def _p_value(likes: Any, size: int) -> float:
    """The share of the ways to deal the targets into two sets that differ as much, all of them or many."""
    observed, total = likes[:size].sum(), len(likes)
    if math.comb(total, size) <= MOST_EXACT:
        sums = [likes[list(chosen)].sum() for chosen in itertools.combinations(range(total), size)]
        return float(np.mean(np.array(sums) >= observed - 1e-12))
    chance = np.random.default_rng(0)
    as_large = sum(chance.permutation(likes)[:size].sum() >= observed - 1e-12 for _ in range(SAMPLED))
    return float((as_large + 1) / (SAMPLED + 1))
