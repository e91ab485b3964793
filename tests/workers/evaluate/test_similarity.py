"""The metrics by hand, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluate.similarity import by_shared_parts

METRICS = ("fuzzy_match", "bleu", "gleu", "chrf", "meteor", "rouge_1", "rouge_2", "rouge_5", "rouge_l")
ANSWER, REFERENCE = "the cat sat on a mat", "the cat sat on the mat"


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_text_is_one_and_strangers_are_nothing(metric: str):
    similarity = by_shared_parts(metric)
    assert similarity(REFERENCE, REFERENCE) == pytest.approx(1, abs=0.01)
    assert similarity("xyz", "abc") == 0
    assert similarity("", "abc") == 0


@given(st.sampled_from(METRICS), st.text(max_size=40), st.text(max_size=40))
def test_every_score_lies_between_nothing_and_one(metric: str, answer: str, reference: str):
    assert 0 <= by_shared_parts(metric)(answer, reference) <= 1 + 1e-9


def test_shared_words_are_counted_as_the_papers_say():
    assert by_shared_parts("rouge_1")(ANSWER, REFERENCE) == pytest.approx(5 / 6)
    assert by_shared_parts("rouge_2")(ANSWER, REFERENCE) == pytest.approx(3 / 5)
    assert by_shared_parts("rouge_l")(ANSWER, REFERENCE) == pytest.approx(5 / 6)
    # n-grams of 1 … 4: 5 of 6, 3 of 5, 2 of 4, 1 of 3 are shared
    assert by_shared_parts("gleu")(ANSWER, REFERENCE) == pytest.approx((5 + 3 + 2 + 1) / (6 + 5 + 4 + 3))
    assert by_shared_parts("bleu")(ANSWER, REFERENCE) == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_meteor_knows_stems_and_order():
    meteor = by_shared_parts("meteor")
    assert meteor("the cats sat", "the cat sat") > meteor("the dogs sat", "the cat sat")
    assert meteor("sat the cat", "the cat sat") < meteor("the cat sat", "the cat sat")
