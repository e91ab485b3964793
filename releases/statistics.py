"""Intervals for comparing two arms: rates, and quantiles out of histograms. Nothing here is a point estimate alone.

Both comparisons recover the interval of a difference from those of its parts, the "method of variance estimates
recovery" (Zou and Donner, 2008). For two rates it is Newcombe's hybrid score interval (1998, method 10).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from contracts.releases import bucket_bounds

INFINITY = math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval. Nothing known: an estimate that is not a number, and no bounds."""

    estimate: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, -INFINITY, INFINITY)


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def confidence_of_look(confidence: float, look: int) -> float:
    """The confidence of the look'th interval, counted from 0, so that all looks together have `confidence`.

    Errors of alpha / ((k + 1) (k + 2)) add up to alpha over any number of looks, so it does no harm to look often
    (spending by a union bound, as in Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences",
    2021).
    """
    return 1 - (1 - confidence) / ((look + 1) * (look + 2))


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """The score interval of a rate (Wilson, 1927), which holds for few trials and for rates near 0."""
    if trials == 0:
        return UNKNOWN
    z, rate = z_of(confidence), successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    return Interval(rate, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def difference(of: Interval, minus: Interval) -> Interval:
    """The interval of `of - minus`, which are independent."""
    estimate = of.estimate - minus.estimate
    if math.isnan(estimate):
        return UNKNOWN
    return Interval(
        estimate,
        estimate - math.hypot(of.estimate - of.low, minus.high - minus.estimate),
        estimate + math.hypot(of.high - of.estimate, minus.estimate - minus.low),
    )


def ratio(of: Interval, by: Interval) -> Interval:
    """The interval of `of / by`, which are positive: a difference of logarithms."""
    if math.isnan(of.estimate) or math.isnan(by.estimate):
        return Interval(math.nan, 0.0, INFINITY)
    of_logarithms = difference(_logarithm(of), _logarithm(by))
    return Interval(*(_exponential(value) for value in (of_logarithms.estimate, of_logarithms.low, of_logarithms.high)))


def quantile(histogram: Mapping[int, int], share: float, confidence: float) -> Interval:
    """A quantile of values in buckets, whatever their distribution: by the ranks that bound it.

    How many values lie below the quantile is binomial (Conover, "Practical Nonparametric Statistics", 3.2). A bound is
    its bucket's outer edge, so buckets make the interval wider and never too narrow.
    """
    total = sum(histogram.values())
    if total == 0:
        return UNKNOWN
    z = z_of(confidence)
    spread = z * math.sqrt(total * share * (1 - share))
    low_rank, high_rank = math.floor(total * share - spread), math.ceil(total * share + spread) + 1
    middle = bucket_bounds(_bucket_at(histogram, max(1, math.ceil(total * share))))
    return Interval(
        math.sqrt(middle[0] * middle[1]),
        0.0 if low_rank < 1 else bucket_bounds(_bucket_at(histogram, low_rank))[0],
        INFINITY if high_rank > total else bucket_bounds(_bucket_at(histogram, high_rank))[1],
    )


def _bucket_at(histogram: Mapping[int, int], rank: int) -> int:
    """The bucket of the rank'th smallest value, counted from 1."""
    passed = 0
    for bucket in sorted(histogram):
        passed += histogram[bucket]
        if passed >= rank:
            return bucket
    raise ValueError(rank)


def _logarithm(of: Interval) -> Interval:
    return Interval(*(math.log(value) if value > 0 else -INFINITY for value in (of.estimate, of.low, of.high)))


def _exponential(value: float) -> float:
    return INFINITY if value == INFINITY else math.exp(value)
