"""The frontier as a picture: quality against speed for one stream, speed for many, and memory. Imports matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contracts.studies import BASELINE, Figures, StudyReport, VariantResult
from workers.compress.frontier import GIB, Axis, frontier, smallness, speed_alone, speed_together

mpl.rcParams["svg.hashsalt"] = "flywheel"  # the same figures give the same file
PICTURE_SIZE = (15, 5.6)
COLOURS = {"other": "#8a94a6", "frontier": "#1f6feb", "baseline": "#111827", "chosen": "#d9480f"}
LABEL_STEP = 11
"""Points between two labels that would lie on each other."""


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    label: str
    better: Axis
    shown: Axis


def draw(report: StudyReport, folder: Path) -> None:
    """Writes pareto.svg and pareto.png."""
    many = report.measurement.streams[-1]
    panels = (
        Panel("one stream", "tokens a second, 1 stream  (more is better →)", speed_alone, speed_alone),
        Panel(
            f"{many} streams", f"tokens a second, {many} streams  (more is better →)", speed_together, speed_together
        ),
        Panel("memory", "peak memory in GiB  (← less is better)", smallness, lambda figures: -smallness(figures) / GIB),
    )
    picture = Figure(figsize=PICTURE_SIZE, layout="constrained")
    picture.suptitle(f"{report.model}: quality against speed and memory", fontsize=13)
    for place, panel in enumerate(panels):
        axes = picture.add_subplot(1, len(panels), place + 1)
        _draw_panel(axes, panel, report)
        axes.set_ylabel(f"score on held-out conversations, {report.measurement.confidence:.0%} interval (chrF)")
    picture.savefig(folder / "pareto.svg", metadata={"Date": None})
    picture.savefig(folder / "pareto.png", dpi=110)


def _draw_panel(axes: Axes, panel: Panel, report: StudyReport) -> None:
    best = frontier(report.variants, panel.better)
    measured = [(variant, variant.figures) for variant in report.variants if variant.figures is not None]
    by_name = {variant.name: figures for variant, figures in measured}
    for variant, figures in measured:
        _draw_variant(axes, variant, figures, panel, on_frontier=variant.name in best, report=report)
    corner = sorted((panel.shown(by_name[name]), by_name[name].score.mean) for name in best)
    axes.step(
        [x for x, _ in corner],
        [y for _, y in corner],
        where="pre" if corner[0][1] > corner[-1][1] else "post",
        color=COLOURS["frontier"],
        linewidth=1.2,
        zorder=1,
    )
    _label(axes, [(variant.name, panel.shown(figures), figures.score.mean) for variant, figures in measured])
    axes.set(title=panel.title, xlabel=panel.label)
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.margins(x=0.18, y=0.1)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_variant(
    axes: Axes, variant: VariantResult, figures: Figures, panel: Panel, *, on_frontier: bool, report: StudyReport
) -> None:
    colour = COLOURS["frontier" if on_frontier else "other"]
    if variant.name == BASELINE:
        colour = COLOURS["baseline"]
    if variant.name == report.recommendation.variant:
        colour = COLOURS["chosen"]
    score = figures.score
    axes.errorbar(
        panel.shown(figures),
        score.mean,
        yerr=[[score.mean - score.low], [score.high - score.mean]],
        fmt="s" if variant.name == BASELINE else "o",
        markersize=7,
        color=colour,
        ecolor=colour,
        elinewidth=0.8,
        alpha=0.95,
        capsize=2,
        zorder=3 if on_frontier else 2,
    )


def _label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Names beside their points, moved up where another stands already."""
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    placed: list[tuple[float, float]] = []
    for name, x, y in sorted(points, key=lambda point: (point[2], point[1])):
        across, up = (x - min(xs)) / wide, (y - min(ys)) / high
        while any(abs(across - a) < 0.3 and abs(up - u) < 0.045 for a, u in placed):
            up += 0.045
        placed.append((across, up))
        moved = (up - (y - min(ys)) / high) / 0.045 * LABEL_STEP
        axes.annotate(name, (x, y), (7, 3 + moved), textcoords="offset points", fontsize=8.5)
