"""The traffic of the load tests, and their plans."""

import random
from statistics import mean, median, stdev

import pytest

from loadtests.load.plans import PLANS
from loadtests.load.traffic import CHAT, LONG_PROMPT, LONGEST, Arrivals, gap_s, text, tokens


def test_lengths_have_the_traces_median_and_a_heavy_tail():
    chance = random.Random(1)
    lengths = [tokens(chance, CHAT.prompt_median, CHAT.sigma, 1.0) for _ in range(20_000)]

    assert median(lengths) == pytest.approx(1020, rel=0.05)
    assert mean(lengths) > 1.4 * median(lengths)
    assert max(lengths) <= LONGEST * 1020


def test_a_scale_shortens_all_lengths_and_none_is_empty():
    chance = random.Random(1)
    lengths = [tokens(chance, LONG_PROMPT.answer_median, LONG_PROMPT.sigma, 0.25) for _ in range(20_000)]

    assert median(lengths) == pytest.approx(13 / 4, abs=1)
    assert min(lengths) == 1


@pytest.mark.parametrize(("arrivals", "variation"), [("poisson", 1.0), ("bursty", 2.0)])
def test_gaps_have_the_rate_and_the_variation_that_they_are_said_to_have(arrivals: Arrivals, variation: float):
    chance = random.Random(1)
    gaps = [gap_s(chance, arrivals, 5.0) for _ in range(50_000)]

    assert mean(gaps) == pytest.approx(0.2, rel=0.05)
    assert stdev(gaps) / mean(gaps) == pytest.approx(variation, rel=0.05)


def test_a_text_has_as_many_words_as_asked_for():
    assert len(text(random.Random(1), 17).split()) == 17


def test_a_spike_is_ten_times_what_is_before_and_after_it():
    spike = PLANS["spike"]
    before, within, after, ended = (spike.sources_at(seconds) for seconds in (29, 31, 61, 90))

    assert (within, after, ended) == (10 * before, before, None)


def test_a_plan_can_be_shortened_without_changing_its_shape():
    soak, stress = PLANS["soak"].lasting(60), PLANS["stress"].lasting(14)

    assert (soak.seconds, soak.sources_at(59), soak.sources_at(60)) == (60, 4, None)
    assert [stress.sources_at(seconds + 0.5) for seconds in range(0, 14, 2)] == [2, 4, 8, 16, 32, 64, 128]
