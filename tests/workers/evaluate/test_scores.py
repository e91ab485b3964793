"""The scores of an evaluation, and their intervals."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluate.bootstrap import paired
from workers.evaluate.similarity import chrf


def test_chrf_is_one_for_the_same_nothing_for_strangers_and_between_for_the_rest():
    assert chrf("Aye, captain.", "Aye,  captain.") == 1
    assert chrf("xyz", "abc") == chrf("", "abc") == 0
    # By hand: of "abcd" against "abce", 3 of 4 letters, 2 of 3 pairs, 1 of 2 triples and 0 of 1 quadruples are shared,
    # and precision is recall.
    assert chrf("abcd", "abce") == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_chrf_lies_between_nothing_and_one(answer: str, reference: str):
    assert 0 <= chrf(answer, reference) <= 1


def test_what_is_missing_weighs_more_than_what_is_said_beside_it():
    assert chrf("one two three four five six", "one two three") > chrf("one", "one two three")


def test_the_same_scores_have_no_difference_and_no_doubt():
    score = paired([0.1, 0.5, 0.9], [0.1, 0.5, 0.9], confidence=0.95)
    assert (score.difference, score.low, score.high, score.rows) == (0, 0, 0, 3)


def test_an_interval_holds_the_true_difference_as_often_as_it_says():
    """Skewed scores of forty rows, whose true difference is 0.1."""
    random.seed(3)
    rounds, held = 150, 0
    for _ in range(rounds):
        stable = [random.expovariate(1) for _ in range(40)]
        candidate = [score + 0.1 + random.gauss(0, 0.3) for score in stable]
        score = paired(stable, candidate, confidence=0.9)
        held += score.low <= 0.1 <= score.high
    assert 0.84 <= held / rounds <= 0.97


def test_pairing_sees_a_small_difference_between_models_that_agree_on_what_is_hard():
    random.seed(4)
    stable = [random.uniform(-5, 0) for _ in range(30)]
    candidate = [score - 0.05 + random.gauss(0, 0.02) for score in stable]
    score = paired(stable, candidate, confidence=0.95)
    assert -0.08 < score.low < score.high < -0.02
    assert score == paired(stable, candidate, confidence=0.95)
