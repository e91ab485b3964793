"""A control chart of a schedule's mean scores: it sees a small change that stays, which no single run would show.

The weight is of Lucas and Saccucci, "Exponentially Weighted Moving Average Control Schemes", 1990. Their limits take
for known what is learnt here from a few runs, and would alarm in every twelfth run after eight of them. So they are
made wider by what is not known: the error of the centre, and Student's t for that of the standard deviation.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy import stats

from contracts.evals import ControlChart

WEIGHT = 0.2
CHANCE = 0.003
"""That a run is outside while nothing changes, as of the usual three standard deviations."""
FEWEST = 8
MOST = 20
"""Runs that the limits are learnt from: the first ones, so that they do not follow what they should show."""
LEAST_STEP = 0.5
"""A deterministic model's runs do not differ at all. So that a single row does not count as a change of the model, the
standard deviation is at least so many rows' share of the mean."""


def chart(means: Sequence[float], *, rows: int) -> ControlChart | None:
    """Of mean scores over `rows` rows, oldest first; the last one is the run that is judged. None where too few runs
    came before.
    """
    learnt = list(means[:-1][:MOST])
    if len(learnt) < FEWEST:
        return None
    watched = means[len(learnt) :]
    average = centre = fmean(learnt)
    for mean in watched:
        average = WEIGHT * mean + (1 - WEIGHT) * average
    faded = (1 - WEIGHT) ** len(watched)
    of_average, of_centre = WEIGHT / (2 - WEIGHT) * (1 - faded**2), (1 - faded) ** 2 / len(learnt)
    spread = max(stdev(learnt), LEAST_STEP / rows) * math.sqrt(of_average + of_centre)
    student = stats.t(len(learnt) - 1)
    reach = float(student.isf(CHANCE / 2)) * spread
    return ControlChart(
        average=average,
        centre=centre,
        low=centre - reach,
        high=centre + reach,
        p_value=float(2 * student.sf(abs(average - centre) / spread)),
        runs=len(learnt),
    )
