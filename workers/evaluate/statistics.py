"""What a run's scores say, and how sure they are."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from contracts.evals import Agreement, Interval, PairedDifference
from workers.evaluate.bootstrap import paired

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 5000
WIDEST_SPREAD = 0.5
"""Standard deviation of scores between 0 and 1 where half of the rows pass; none is larger."""


def mean_interval(scores: Sequence[float]) -> Interval:
    """By the bootstrap, bias-corrected and accelerated (Efron, 1987). The same scores give the same interval."""
    mean, rows = fmean(scores), len(scores)
    if rows < 2 or min(scores) == max(scores):
        return Interval(mean=mean, low=mean, high=mean, rows=rows)
    found = stats.bootstrap(
        (np.asarray(scores),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(mean=mean, low=float(found.low), high=float(found.high), rows=rows)


def share_interval(passed: int, rows: int) -> Interval:
    """Of rows that pass (Wilson, 1927): it is right also where none or all do."""
    found = stats.binomtest(passed, rows).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(mean=passed / rows, low=float(found.low), high=float(found.high), rows=rows)


def paired_difference(baseline: Sequence[float], scores: Sequence[float]) -> PairedDifference:
    """Of two models on the same rows. The p-value is of all or of many changes of the differences' signs."""
    found = paired(baseline, scores, confidence=CONFIDENCE)
    differences = np.asarray(scores) - np.asarray(baseline)
    p_value = 1.0
    if np.any(differences):
        p_value = float(
            stats.permutation_test(
                (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
            ).pvalue
        )
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return PairedDifference(
        baseline=found.stable,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=p_value,
        detectable=detectable(len(differences), spread),
        rows=found.rows,
    )


def detectable(rows: int, spread: float) -> float:
    """The least true difference of two means over the same rows that a test finds in 80 of 100 cases. `spread` is the
    standard deviation of the rows' differences.
    """
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER)
    return float(reach * spread / np.sqrt(rows))


def agreement(one: Sequence[str], other: Sequence[str]) -> Agreement:
    """Cohen's kappa ("A coefficient of agreement for nominal scales", 1960)."""
    same = sum(first == second for first, second in zip(one, other, strict=True))
    kappa: Any = None
    if len({*one, *other}) > 1:
        kappa = float(cohen_kappa_score(list(one), list(other)))
    return Agreement(share=same / len(one), kappa=kappa, rows=len(one))


def confusion(references: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    counted = Counter(zip(references, labels, strict=True))
    names = sorted({*references, *labels})
    return {reference: {label: counted[reference, label] for label in names} for reference in names}
