"""Pictures of a run, mostly as SVG: colours that people with colour blindness tell apart (Okabe and Ito, 2008)."""

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from contracts.bias import Gap, Preference
from contracts.evals import CriterionStatistics, EvalRun

Form = Literal["svg", "png"]

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#666666"
STYLE: dict[str, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "flywheel",
    "text.parse_math": False,  # names are of users, and may have dollar signs
}
FEWEST_AXES = 3
NO_PREFERENCE = 0.5
CENTRED = 0.1
BINS = 20
FEWEST_RUNS = 2
MOST_CRITERIA = 8


def bars(statistics: Sequence[CriterionStatistics]) -> bytes:
    """Shares of rows that pass, with their intervals; the earlier run's mean score beside them where there is one."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(statistics))[::-1]
        for place, found in zip(places, statistics, strict=True):
            rate = found.pass_rate
            axes.barh(place, rate.mean, height=0.6, color=BLUE)
            reach = [[rate.mean - rate.low], [rate.high - rate.mean]]
            axes.errorbar(rate.mean, place, xerr=reach, color="black", capsize=4, linewidth=1.2)
            axes.annotate(f"{rate.mean:.0%}", (rate.high, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, [short(found.name) for found in statistics])
        axes.set_xlim(0, 1.12)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}" if share <= 1 else "")
        axes.set_xlabel("rows that pass, with the interval of 95 % confidence")

    return _svg(draw, width=8, height=1.2 + 0.55 * len(statistics))


def differences(statistics: Sequence[CriterionStatistics]) -> bytes | None:
    """This run's scores minus the baseline's, on the same rows. None without a baseline."""
    found = [(each.name, each.against_baseline) for each in statistics if each.against_baseline is not None]
    if not found:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(found))[::-1]
        for place, (_, difference) in zip(places, found, strict=True):
            assert difference is not None
            sure = difference.low > 0 or difference.high < 0
            reach = [[difference.difference - difference.low], [difference.high - difference.difference]]
            colour = BLUE if sure else GREY
            axes.errorbar(difference.difference, place, xerr=reach, fmt="o", color=colour, capsize=4)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(places, [short(name) for name, _ in found])
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.set_xlabel("score minus the baseline's (grey: may be chance)")

    return _svg(draw, width=8, height=1.2 + 0.5 * len(found))


def radar(statistics: Sequence[CriterionStatistics]) -> bytes | None:
    """Mean scores of all criteria at a glance. None for fewer than three whose scores lie between 0 and 1."""
    shown = [found for found in statistics if 0 <= found.score.mean <= 1]
    if len(shown) < FEWEST_AXES:
        return None

    def draw(figure: Figure) -> None:
        axes: Any = figure.add_subplot(projection="polar")
        angles = np.linspace(0, 2 * np.pi, len(shown), endpoint=False)
        closed = np.append(angles, angles[0])
        means = [found.score.mean for found in shown]
        axes.plot(closed, [*means, means[0]], color=BLUE, marker="o")
        axes.fill(closed, [*means, means[0]], color=BLUE, alpha=0.2)
        axes.set_xticks(angles, [short(found.name) for found in shown])
        for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
            label.set_horizontalalignment(_outwards(angle))
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1], ["0.25", "0.5", "0.75", "1"], color=GREY)

    return _svg(draw, width=8, height=4.5)


def _outwards(angle: float) -> str:
    """How a label is set so that it begins at the circle."""
    side = np.cos(angle)
    return "center" if abs(side) < CENTRED else "left" if side > 0 else "right"


def histogram(name: str, scores: Sequence[float]) -> bytes:
    """How a criterion's scores are spread over the rows."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        low, high = min(0.0, *scores), max(1.0, *scores)
        axes.hist(scores, bins=BINS, range=(low, high), color=ORANGE)
        axes.set_xlabel(f"score by “{short(name)}”")
        axes.set_ylabel("rows")

    return _svg(draw, width=5, height=2.6)


def confusion_matrix(found: CriterionStatistics) -> bytes | None:
    """What people said, downwards, and what the judge said. None where people said nothing."""
    if found.confusion is None:
        return None
    names = list(found.confusion)
    counts = np.array([[found.confusion[reference][label] for label in names] for reference in names])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(counts, cmap="Blues", vmin=0)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
        axes.set_xticks(range(len(names)), [short(name) for name in names], rotation=30, ha="right")
        axes.set_yticks(range(len(names)), [short(name) for name in names])
        axes.set_xlabel("label of the judge")
        axes.set_ylabel("reference")

    size = 2.5 + 0.5 * len(names)
    return _svg(draw, width=size, height=size)


def history(runs: Sequence[EvalRun], *, form: Form = "svg") -> bytes | None:
    """Mean scores of an eval's runs over time with their intervals, a picture for each criterion; orange where a
    schedule's alert saw a run get worse. None for fewer than two runs.
    """
    names = list(dict.fromkeys(found.name for run in runs for found in run.results.statistics))[:MOST_CRITERIA]
    if len(runs) < FEWEST_RUNS or not names:
        return None

    def draw(figure: Figure) -> None:
        for axes, name in zip(np.atleast_1d(figure.subplots(len(names), sharex=True)), names, strict=True):
            _draw_history(axes, name, runs)
        if any(_got_worse(run, name) for run in runs for name in names):
            axes.set_xlabel("orange squares: the schedule saw it get worse")

    return _drawn(draw, width=8, height=0.6 + 2.0 * len(names), form=form)


def _draw_history(axes: Any, name: str, runs: Sequence[EvalRun]) -> None:
    shown = [
        (datetime.fromtimestamp(run.created_at, UTC), found.score, _got_worse(run, name))
        for run in runs
        for found in run.results.statistics
        if found.name == name
    ]
    axes.plot([time for time, _, _ in shown], [score.mean for _, score, _ in shown], color=GREY, linewidth=0.8)
    for worse, colour, mark in ((False, BLUE, "o"), (True, ORANGE, "s")):
        points = [(time, score) for time, score, got_worse in shown if got_worse == worse]
        reach = [[score.mean - score.low for _, score in points], [score.high - score.mean for _, score in points]]
        means = [score.mean for _, score in points]
        if points:
            axes.errorbar([time for time, _ in points], means, yerr=reach, fmt=mark, color=colour, capsize=3)
    axes.set_title(short(name), loc="left", fontsize=11)
    axes.set_ylabel("mean score")
    if all(score.low >= 0 and score.high <= 1 for _, score, _ in shown):
        axes.set_ylim(-0.05, 1.05)
    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _got_worse(run: EvalRun, criterion: str) -> bool:
    return any(drift.criterion == criterion and drift.direction == "worse" for drift in run.results.drift)


def preferences(found: Sequence[Preference]) -> bytes:
    """Of pairs, the share in which the stereotype is likelier; the line is where there is no preference."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(found))[::-1]
        for place, each in zip(places, found, strict=True):
            share = each.share
            sure = share.low > NO_PREFERENCE or share.high < NO_PREFERENCE
            reach = [[share.mean - share.low], [share.high - share.mean]]
            axes.errorbar(share.mean, place, xerr=reach, fmt="o", color=ORANGE if sure else GREY, capsize=4)
        axes.axvline(NO_PREFERENCE, color="black", linewidth=0.8)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.set_yticks(places, [f"{each.kind} ({each.share.rows})" for each in found])
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("pairs in which the stereotype is likelier (grey: may be chance)")

    return _svg(draw, width=8, height=1.2 + 0.42 * len(found))


def groups(found: Gap) -> bytes:
    """Means of a measure of each group."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(found.groups))[::-1]
        for place, mean in zip(places, found.groups.values(), strict=True):
            reach = [[mean.mean - mean.low], [mean.high - mean.mean]]
            axes.errorbar(mean.mean, place, xerr=reach, fmt="o", color=BLUE, capsize=4)
        axes.set_yticks(places, [short(name) for name in found.groups])
        axes.set_ylim(-0.6, len(found.groups) - 0.4)
        axes.set_xlabel(f"{found.measure}, {short(found.axis)} (p = {found.p_value:.3f})")

    return _svg(draw, width=5, height=1.2 + 0.4 * len(found.groups))


def short(name: str) -> str:
    """Of a user, so that it leaves room for the picture."""
    return name if len(name) <= 32 else f"{name[:31]}…"


def _svg(draw: Callable[[Figure], None], *, width: float, height: float) -> bytes:
    return _drawn(draw, width=width, height=height, form="svg")


def _drawn(draw: Callable[[Figure], None], *, width: float, height: float, form: Form) -> bytes:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        drawn = io.BytesIO()
        figure.savefig(drawn, format=form, metadata={"Date": None} if form == "svg" else {})
    return drawn.getvalue()
