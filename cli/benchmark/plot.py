"""A picture of a benchmark as SVG, written by hand: three panels need no plotting library."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from cli.benchmark.load import Level
from cli.benchmark.summary import answered, times_between_tokens_s, times_to_first_token_s

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito, 2008: told apart by people with any colour vision."""
PANEL_WIDTH, PANEL_HEIGHT = 280, 220
LEFT, TOP, GAP, BOTTOM = 56, 76, 72, 52
MOST_POINTS = 400

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    across: str
    up: str
    series: list[Points]
    highest: float | None = None


def plot(levels: Sequence[Level], title: str) -> str:
    """How many tokens came sooner than a time, and tokens a second; a colour for each concurrency."""
    panels = [
        Panel("Time to first token", "milliseconds", "% of answers", _each(levels, times_to_first_token_s), 100),
        Panel("Time between tokens", "milliseconds", "% of gaps", _each(levels, times_between_tokens_s), 100),
        Panel("Throughput", "seconds", "tokens per second", [_throughput(level) for level in levels]),
    ]
    width = LEFT + len(panels) * (PANEL_WIDTH + GAP) - GAP + 24
    height = TOP + PANEL_HEIGHT + BOTTOM
    drawn = [_draw(panel, LEFT + number * (PANEL_WIDTH + GAP)) for number, panel in enumerate(panels)]
    form = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {form} font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            _text(LEFT, 22, title, 'font-size="15" font-weight="600"'),
            *_legend(levels),
            *drawn,
            "</svg>\n",
        ]
    )


def _each(levels: Sequence[Level], times_s: Callable[[Level], list[float]]) -> list[Points]:
    return [_shares(times_s(level)) for level in levels]


def _shares(times_s: list[float]) -> Points:
    """(milliseconds, % that took no longer), thinned out."""
    ordered = sorted(times_s)
    step = max(1, len(ordered) // MOST_POINTS)
    kept = [*range(0, len(ordered), step), len(ordered) - 1] if ordered else []
    return [(ordered[index] * 1000, (index + 1) / len(ordered) * 100) for index in kept]


def _throughput(level: Level) -> Points:
    """(seconds, tokens per second), in about thirty steps."""
    if level.duration_s <= 0:
        return []
    width_s = level.duration_s / 30
    counts = [0.0] * 30
    for answer in answered(level):
        per_piece = answer.tokens / len(answer.token_times_s)
        for time_s in answer.token_times_s:
            counts[min(29, int(time_s / width_s))] += per_piece
    return [((number + 0.5) * width_s, count / width_s) for number, count in enumerate(counts)]


def _legend(levels: Sequence[Level]) -> list[str]:
    parts = []
    for number, level in enumerate(levels):
        x = LEFT + number * 104
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 46, f"{level.concurrency} at once"))
    return parts


def _draw(panel: Panel, left: int) -> str:
    right_value = _round_up(max((x for points in panel.series for x, _ in points), default=1.0))
    top_value = panel.highest or _round_up(max((y for points in panel.series for _, y in points), default=1.0))
    bottom = TOP + PANEL_HEIGHT
    parts = [_text(left, TOP - 10, panel.title, 'font-weight="600"')]
    for number in range(5):
        x, y = left + PANEL_WIDTH * number / 4, bottom - PANEL_HEIGHT * number / 4
        parts.append(f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(_text(left - 8, y + 4, _number(top_value * number / 4), 'text-anchor="end"'))
        parts.append(_text(x, bottom + 18, _number(right_value * number / 4), 'text-anchor="middle"'))
    parts.append(_text(left + PANEL_WIDTH / 2, bottom + 38, panel.across, 'text-anchor="middle" fill="#666"'))
    middle, beside = TOP + PANEL_HEIGHT / 2, left - 42
    turned = f'text-anchor="middle" fill="#666" transform="rotate(-90 {beside} {middle})"'
    parts.append(_text(beside, middle, panel.up, turned))
    for number, points in enumerate(panel.series):
        placed = " ".join(
            f"{left + PANEL_WIDTH * x / right_value:.1f},{bottom - PANEL_HEIGHT * y / top_value:.1f}" for x, y in points
        )
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{placed}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return "\n".join(parts)


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 × a power of ten: four equal parts of it have short names."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value * 0.999)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
