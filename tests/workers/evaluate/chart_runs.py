"""`python -m tests.workers.evaluate.chart_runs`: after how many runs the control chart sees a change, and how often it
is wrong where there is none, for runs that differ by chance (normal) and limits learnt from few and from many.
"""

import random
from statistics import median

from workers.evaluate.control_chart import FEWEST, MOST, WEIGHT, chart

SERIES, RUNS = 200, 60
ROWS = 1_000_000
"""So many that chance between runs counts, and not the share of a row."""


def alarms(learnt: int, change: float, seed: int) -> list[bool]:
    """Of a series whose mean changes by `change` standard deviations after its first `learnt` runs."""
    chance = random.Random(seed)
    before = [chance.gauss(0, 1) for _ in range(learnt)]
    after = [chance.gauss(change, 1) for _ in range(RUNS)]
    told = [chart([*before, *after[:count]], rows=ROWS) for count in range(1, RUNS + 1)]
    return [found is not None and not found.low <= found.average <= found.high for found in told]


def main() -> None:
    print(f"weight {WEIGHT}, {SERIES} series of {RUNS} runs")
    for change in (0.0, -1.0, -2.0, -3.0):
        found = [alarms(MOST, change, seed) for seed in range(SERIES)]
        share = sum(map(sum, found)) / (SERIES * RUNS)
        first = [series.index(True) + 1 if any(series) else RUNS + 1 for series in found]
        print(
            f"learnt from {MOST}, change {change:+}: {share:.4f} of runs outside, first after {median(first)} (median)"
        )
    found = [alarms(FEWEST, 0.0, seed)[:1] for seed in range(10 * SERIES)]
    print(f"learnt from {FEWEST}, no change: {sum(map(sum, found)) / len(found):.4f} of first runs outside")


if __name__ == "__main__":
    main()
