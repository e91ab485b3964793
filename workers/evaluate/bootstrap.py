"""The interval of a mean difference between two models on the same rows, by the bootstrap (Efron, 1979)."""

import math
import random
from collections.abc import Sequence
from statistics import fmean

from contracts.releases import PairedScore

RESAMPLES = 5000


def paired(stable: Sequence[float], candidate: Sequence[float], *, confidence: float) -> PairedScore:
    """Both models' scores row by row. The same scores give the same interval.

    Percentiles of resampled means are too narrow by sqrt((n - 1) / n) (Hesterberg, "What teachers should know about
    the bootstrap", 2015), which is made up for.
    """
    differences = [new - old for old, new in zip(stable, candidate, strict=True)]
    rows, mean = len(differences), fmean(differences)
    wider = math.sqrt(rows / (rows - 1)) if rows > 1 else 1.0
    chance = random.Random(0)  # noqa: S311 (no secret)
    means = sorted(fmean(chance.choices(differences, k=rows)) for _ in range(RESAMPLES))
    tail = (1 - confidence) / 2
    low, high = means[math.floor(tail * RESAMPLES)], means[math.ceil((1 - tail) * RESAMPLES) - 1]
    return PairedScore(
        stable=fmean(stable),
        candidate=fmean(candidate),
        difference=mean,
        low=mean + wider * (low - mean),
        high=mean + wider * (high - mean),
        rows=rows,
    )
