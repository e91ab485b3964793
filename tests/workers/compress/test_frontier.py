"""Which variants are on the frontier, and which is recommended."""

from typing import Any

import pytest

from contracts.studies import (
    BASELINE,
    Constraints,
    Figures,
    Interval,
    LoadFigures,
    Measurement,
    Spread,
    StudyReport,
    VariantResult,
)
from workers.compress.frontier import GIB, frontier, recommend, speed_alone, whole_frontier
from workers.compress.report import as_html

MEASUREMENT = Measurement(streams=(1, 32))


def variant(name: str, *, score: float, speed: float, gib: float = 1.0, many: float = 100.0, ttft: float = 50.0):
    def load(streams: int, rate: float) -> LoadFigures:
        of = {"ttft_ms": Spread(median=ttft, low=ttft - 5, high=ttft + 5)}
        rates = Spread(median=rate, low=rate - 2, high=rate + 2)
        return LoadFigures(streams=streams, tokens_per_second=rates, joules_per_token=0.5, **of)

    def around(mean: float) -> Interval:
        return Interval(mean=mean, low=mean - 0.05, high=mean + 0.05, rows=64)

    figures = Figures(
        size_bytes=1 << 20,
        start_s=30,
        peak_memory_bytes=int(gib * GIB),
        loads=(load(1, speed), load(32, many)),
        perplexity=around(17.0),
        score=around(score),
        score_difference=None if name == BASELINE else around(0.0),
        energy_method="a guess",
    )
    return VariantResult(name=name, technique="serve", details={}, status="measured", figures=figures)


BASE = variant(BASELINE, score=0.5, speed=20, gib=1.0)
FAST = variant("fast", score=0.49, speed=30, gib=0.9)
FASTEST = variant("fastest", score=0.2, speed=60, gib=0.8)
BEATEN = variant("beaten", score=0.45, speed=25, gib=1.1)
BROKEN = VariantResult(name="broken", technique="quantise", details={}, status="failed", reason="It <broke>.")
ALL = [BASE, FAST, FASTEST, BEATEN, BROKEN]


def test_the_frontier_has_what_nothing_beats_in_both():
    assert frontier(ALL, speed_alone) == [BASELINE, "fast", "fastest"]
    assert whole_frontier(ALL) == [BASELINE, "fast", "fastest"]


def test_one_that_beats_all_stands_alone():
    best = variant("best", score=0.6, speed=70)
    assert frontier([*ALL, best], speed_alone) == ["best"]


def test_a_variant_that_is_best_with_many_streams_only_is_on_the_frontier_too():
    crowd = variant("crowd", score=0.4, speed=5, gib=2.0, many=300)
    assert "crowd" in whole_frontier([*ALL, crowd])


@pytest.mark.parametrize(
    ("target", "constraints", "chosen"),
    [
        ("latency", {}, "fast"),  # the fastest loses more than a twentieth of the score
        ("latency", {"min_score": 0.1}, "fastest"),
        ("memory", {"min_score": 0.1}, "fastest"),
        ("memory", {}, "fast"),
        ("quality", {}, BASELINE),
        ("quality", {"max_memory_gib": 0.95}, "fast"),
    ],
)
def test_the_best_that_keeps_the_constraints_is_recommended(target: Any, constraints: dict, chosen: str):
    assert recommend(ALL, target, Constraints(**constraints), MEASUREMENT).variant == chosen


def test_a_lead_that_lies_within_the_rounds_is_told_as_such():
    near = variant("near", score=0.5, speed=22)
    told = "Their rounds overlap (20.0 to 24.0 and 18.0 to 22.0 tokens a second), so that may be chance."
    assert told in recommend([BASE, near], "latency", Constraints(), MEASUREMENT).reason
    assert "overlap" not in recommend([BASE, near, FAST], "latency", Constraints(), MEASUREMENT).reason


def test_where_nothing_keeps_them_the_nearest_is_told_and_none_recommended():
    advice = recommend(ALL, "latency", Constraints(max_ttft_ms=10), MEASUREMENT)
    assert advice.variant is None
    assert "time to the first token in ms is 50" in advice.reason


def test_it_is_told_whether_a_constraint_is_kept_surely():
    advice = recommend(ALL, "latency", Constraints(max_ttft_ms=52, min_score=0.3), MEASUREMENT)
    surely = {check.name: check.surely for check in advice.checks}
    assert surely == {"min_score": True, "max_ttft_ms": False}


def test_the_report_tells_everything_and_lets_nothing_through_as_html():
    report = StudyReport(
        model="base",
        target="latency",
        constraints=Constraints(),
        measurement=MEASUREMENT,
        machine="a machine",
        variants=tuple(ALL),
        frontier=("baseline", "fast"),
        recommendation=recommend(ALL, "latency", Constraints(), MEASUREMENT),
        artifact="models/x/1",
        seconds=600,
    )
    page = as_html(report, "<?xml?><svg></svg>")
    assert "It &lt;broke&gt;." in page
    assert "10.0 minutes" in page
    assert all(name in page for name in ("baseline", "fast", "fastest", "beaten"))
