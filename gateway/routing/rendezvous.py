"""Rendezvous hashing (Thaler and Ravishankar, 1998): whoever knows the same engines ranks them alike for a key.

When an engine comes or goes, only the keys that it wins change their place.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
_WORD = (1 << 64) - 1


def key_of(text: str) -> int:
    """64 bits that are the same in every process, which `hash()` is not."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def mix(key: int, seed: int) -> int:
    """Spreads the two over 64 bits: splitmix64's finaliser (Steele et al., 2014)."""
    mixed = (key ^ seed) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return mixed ^ (mixed >> 31)


def top_two(key: int, seeds: Sequence[int]) -> tuple[int, int]:
    """Places of the two seeds that rank highest for the key. There must be two or more."""
    first = second = -1
    first_weight = second_weight = -1
    for place, seed in enumerate(seeds):
        weight = mix(key, seed)
        if weight > first_weight:
            first, second, first_weight, second_weight = place, first, weight, first_weight
        elif weight > second_weight:
            second, second_weight = place, weight
    return first, second


def weighted_choice(key: int, items: Iterable[tuple[Item, int, float]]) -> Item:
    """The item, of (item, seed, weight above zero), that wins the key; each wins its weight's share of all keys.

    When a weight changes, keys move only to or from that item (Wang et al., 2014, "Weighted distributed hash tables").
    """

    def score(entry: tuple[Item, int, float]) -> float:
        _, seed, weight = entry
        return -weight / math.log((mix(key, seed) + 0.5) / 2**64)

    return max(items, key=score)[0]
