"""Intervals against published and simulated figures."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.releases import bucket_bounds, bucket_of
from releases.statistics import confidence_of_look, difference, quantile, ratio, wilson


def test_wilsons_interval_is_the_published_one():
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3."""
    for (successes, trials), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0000, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        found = wilson(successes, trials, 0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_newcombes_interval_of_a_difference_is_the_published_one():
    """Newcombe (1998), "Interval estimation for the difference between independent proportions", table II, 10."""
    for ((a, m), (b, n)), (low, high) in {
        ((56, 70), (48, 80)): (0.0524, 0.3339),
        ((9, 10), (3, 10)): (0.1705, 0.8090),
        ((5, 56), (0, 29)): (-0.0381, 0.1926),
        ((0, 10), (0, 10)): (-0.2775, 0.2775),
        ((10, 10), (0, 10)): (0.6075, 1.0000),
    }.items():
        found = difference(wilson(a, m, 0.95), wilson(b, n, 0.95))
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_of_five_failed_requests_in_five_the_interval_is_wide():
    assert wilson(5, 5, 0.95).low == pytest.approx(0.5655, abs=1e-4)


def test_nothing_is_known_of_nothing():
    known = wilson(3, 10, 0.95)
    for found in (difference(wilson(0, 0, 0.95), known), ratio(quantile({}, 0.5, 0.95), quantile({0: 9}, 0.5, 0.95))):
        assert math.isnan(found.estimate)
        assert found.high == math.inf
    assert ratio(quantile({}, 0.5, 0.95), quantile({}, 0.5, 0.95)).low == 0


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_value_lies_in_its_bucket(value: float):
    low, high = bucket_bounds(bucket_of(value))
    assert low <= value * (1 + 1e-9)
    assert value <= high * (1 + 1e-9)


@given(st.lists(st.floats(min_value=0.001, max_value=100), min_size=1, max_size=60), st.floats(0.5, 0.999))
def test_a_quantiles_interval_holds_its_estimate_and_grows_with_confidence(values: list[float], confidence: float):
    histogram = histogram_of(values)
    narrow, wide = quantile(histogram, 0.5, confidence), quantile(histogram, 0.5, 0.9999)
    assert narrow.low <= narrow.estimate <= narrow.high
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(
    st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: (min(pair), pair[1])),
    st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: (min(pair), pair[1])),
)
def test_a_difference_turned_round_is_its_negative(first: tuple[int, int], second: tuple[int, int]):
    one, other = wilson(*first, 0.95), wilson(*second, 0.95)
    there, back = difference(one, other), difference(other, one)
    assert there.low <= there.estimate <= there.high
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_a_ratio_of_medians_is_covered_as_often_as_it_says(sigma: float):
    """Log-normal latencies whose medians differ by half: at least 95 of 100 intervals hold the true ratio."""
    random.seed(5)
    rounds, held = 400, 0
    for _ in range(rounds):
        slow = histogram_of([random.lognormvariate(math.log(0.15), sigma) for _ in range(80)])
        fast = histogram_of([random.lognormvariate(math.log(0.10), sigma) for _ in range(200)])
        found = ratio(quantile(slow, 0.5, 0.95), quantile(fast, 0.5, 0.95))
        held += found.low <= 1.5 <= found.high
    assert held / rounds >= 0.93


def test_the_errors_of_all_looks_together_stay_below_what_was_asked():
    assert sum(1 - confidence_of_look(0.95, look) for look in range(10_000)) < 0.05
    assert 1 - confidence_of_look(0.95, 0) == pytest.approx(0.025)


def histogram_of(values: list[float]) -> dict[int, int]:
    histogram: dict[int, int] = {}
    for value in values:
        histogram[bucket_of(value)] = histogram.get(bucket_of(value), 0) + 1
    return histogram
