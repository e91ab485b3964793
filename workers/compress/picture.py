"""The frontier as a picture: quality against speed for one stream, speed for many, and memory. Imports matplotlib.

In each panel better is up and to the right. Points have numbers, which a list below explains: so many names beside
points that lie together cannot be read.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contracts.studies import BASELINE, Figures, StudyReport, VariantResult
from workers.compress.frontier import GIB, Axis, frontier, smallness, speed_alone, speed_together

mpl.rcParams["svg.hashsalt"] = "flywheel"  # the same figures give the same file
PICTURE_INCHES = (15, 6.4)
PANEL_POINTS = (300.0, 290.0)
COLOURS = {"other": "#6b7280", "frontier": "#1f6feb", "baseline": "#111827", "chosen": "#d9480f"}
MARKS = {"other": "o", "frontier": "o", "baseline": "s", "chosen": "D"}
NUMBER_SIZE = (14.0, 10.0)
"""Points that a number takes."""
NAMES_PER_COLUMN = 3


@dataclass(frozen=True, slots=True)
class Panel:
    """`better` is more where it is better, `shown` is what stands on the axis."""

    title: str
    label: str
    better: Axis
    shown: Axis
    less_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    number: int
    variant: VariantResult
    figures: Figures
    kind: str


def draw(report: StudyReport, folder: Path) -> None:
    """Writes pareto.svg and pareto.png."""
    picture = Figure(figsize=PICTURE_INCHES)
    picture.suptitle(f"{report.model}: quality against speed and memory; better is up and to the right", fontsize=13)
    panels = _panels(report.measurement.streams[-1])
    for place, panel in enumerate(panels):
        axes = picture.add_axes((0.05 + place * 0.325, 0.27, 0.285, 0.62))
        _draw_panel(axes, panel, _points(report))
    picture.axes[0].set_ylabel(f"score (chrF), with its {report.measurement.confidence:.0%} interval")
    _list_names(picture, _points(report))
    picture.savefig(folder / "pareto.svg", metadata={"Date": None})
    picture.savefig(folder / "pareto.png", dpi=110)


def _panels(streams: int) -> tuple[Panel, ...]:
    return (
        Panel("one stream", "tokens a second, 1 stream", speed_alone, speed_alone),
        Panel(f"{streams} streams", f"tokens a second, {streams} streams", speed_together, speed_together),
        Panel("memory", "peak memory of the engine in GiB", smallness, _gib, less_is_better=True),
    )


def _gib(figures: Figures) -> float:
    return figures.peak_memory_bytes / GIB


def _points(report: StudyReport) -> list[Point]:
    measured = [(variant, variant.figures) for variant in report.variants if variant.figures is not None]
    return [
        Point(number, variant, figures, _kind(variant, report))
        for number, (variant, figures) in enumerate(measured, start=1)
    ]


def _kind(variant: VariantResult, report: StudyReport) -> str:
    if variant.name == report.recommendation.variant:
        return "chosen"
    if variant.name == BASELINE:
        return "baseline"
    return "frontier" if variant.on_frontier else "other"


def _draw_panel(axes: Axes, panel: Panel, points: Sequence[Point]) -> None:
    for point in points:
        score, colour = point.figures.score, COLOURS[point.kind]
        axes.errorbar(
            panel.shown(point.figures),
            score.mean,
            yerr=[[score.mean - score.low], [score.high - score.mean]],
            color=colour,
            elinewidth=0.7,
            alpha=0.45,
            zorder=1,
        )
        axes.plot(panel.shown(point.figures), score.mean, MARKS[point.kind], color=colour, markersize=6, zorder=3)
    _draw_frontier(axes, panel, points)
    axes.set(title=panel.title, xlabel=panel.label)
    axes.margins(x=0.1, y=0.06)
    axes.autoscale_view()
    if panel.less_is_better:
        axes.invert_xaxis()
    axes.grid(color="#e5e7eb", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _number(axes, [(point, (panel.shown(point.figures), point.figures.score.mean)) for point in points])


def _draw_frontier(axes: Axes, panel: Panel, points: Sequence[Point]) -> None:
    """A staircase: between two of its points nothing is as good as the one and as fast as the other."""
    by_name = {point.variant.name: point.figures for point in points}
    best = [by_name[name] for name in frontier([point.variant for point in points], panel.better)]
    corners = [(panel.shown(figures), figures.score.mean) for figures in best]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    axes.step(xs, ys, where="pre", color=COLOURS["frontier"], linewidth=1.1, zorder=2)


def _number(axes: Axes, points: Sequence[tuple[Point, tuple[float, float]]]) -> None:
    """Beside each point, where no other point or number is."""
    low_x, high_x = axes.get_xlim()
    low_y, high_y = axes.get_ylim()

    def in_points(place: tuple[float, float]) -> tuple[float, float]:
        across, up = (place[0] - low_x) / (high_x - low_x), (place[1] - low_y) / (high_y - low_y)
        return across * PANEL_POINTS[0], up * PANEL_POINTS[1]

    taken = [in_points(place) for _, place in points]
    for point, place in sorted(points, key=lambda one: -one[1][1]):
        at = in_points(place)
        moved = next(
            (move for move in _moves() if not _is_taken((at[0] + move[0], at[1] + move[1]), taken)), (0.0, 10.0)
        )
        taken.append((at[0] + moved[0], at[1] + moved[1]))
        far = math.hypot(*moved) > NUMBER_SIZE[0]
        axes.annotate(
            str(point.number),
            place,
            moved,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=COLOURS[point.kind],
            fontweight="normal" if point.kind == "other" else "bold",
            arrowprops={"arrowstyle": "-", "color": "#9ca3af", "linewidth": 0.5, "shrinkB": 3} if far else None,
            zorder=4,
        )


def _moves() -> Iterator[tuple[float, float]]:
    """Around a point, ever further away."""
    for radius in (11.0, 19.0, 27.0, 36.0, 46.0):
        for eighth in (1, 3, 0, 2, 7, 5, 4, 6):
            yield radius * math.cos(eighth * math.pi / 4), radius * math.sin(eighth * math.pi / 4)


def _is_taken(place: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return any(abs(place[0] - x) < NUMBER_SIZE[0] and abs(place[1] - y) < NUMBER_SIZE[1] for x, y in taken)


def _list_names(picture: Figure, points: Sequence[Point]) -> None:
    columns = math.ceil(len(points) / NAMES_PER_COLUMN)
    for place, point in enumerate(points):
        column, row = divmod(place, NAMES_PER_COLUMN)
        what = {"chosen": " – recommended", "baseline": " – the model as it is"}.get(point.kind, "")
        picture.text(
            0.05 + column * 0.92 / columns,
            0.135 - row * 0.042,
            f"{point.number}  {point.variant.name}{what}",
            fontsize=9.5,
            color=COLOURS[point.kind],
            fontweight="normal" if point.kind == "other" else "bold",
        )
    picture.text(
        0.05, 0.012, "blue: on the frontier of a panel, beaten by no other in both", fontsize=8.5, color="#4b5563"
    )
