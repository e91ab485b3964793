"""Hashing that agrees over processes."""

from collections import Counter

import pytest

from gateway.routing.rendezvous import key_of, mix, top_two, weighted_choice

KEYS = [key_of(f"key {number}") for number in range(4000)]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_every_engine_wins_its_part(count: int):
    seeds = [key_of(f"engine-{number}") for number in range(count)]
    firsts = Counter(top_two(key, seeds)[0] for key in KEYS)
    pairs = Counter(top_two(key, seeds) for key in KEYS)

    assert all(abs(wins - len(KEYS) / count) < 0.15 * len(KEYS) / count for wins in firsts.values())
    assert len(pairs) == count * (count - 1)


def test_keys_that_differ_in_one_bit_are_spread():
    seeds = [key_of("engine-a"), key_of("engine-b")]
    firsts = Counter(top_two(key, seeds)[0] for key in range(4000))

    assert 1800 < firsts[0] < 2200
    assert mix(0, 1) != mix(0, 2)


def test_only_the_keys_of_an_engine_that_leaves_move():
    seeds = [key_of(f"engine-{number}") for number in range(5)]
    for key in KEYS:
        first, second = top_two(key, seeds)
        after = seeds[:-1] if first != 4 else seeds[:first]
        assert after[top_two(key, after)[0]] == (seeds[first] if first != 4 else seeds[second])


def test_it_is_the_same_in_every_process():
    assert key_of("a session") == 14880836037093040700


def test_weights_are_shares_and_a_change_moves_few():
    def winners(weights: dict[str, float]) -> list[str]:
        entries = [(name, key_of(name), weight) for name, weight in weights.items()]
        return [weighted_choice(key, entries) for key in KEYS]

    before, after = winners({"stable": 9, "candidate": 1}), winners({"stable": 8, "candidate": 2})
    moved = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)

    assert 0.08 < before.count("candidate") / len(KEYS) < 0.12
    assert 0.17 < after.count("candidate") / len(KEYS) < 0.23
    assert set(moved) == {("stable", "candidate")}
