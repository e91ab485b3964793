"""`python -m loadtests.peers.plots RESULT.json`: what docs/performance.md shows of a result.

Draws docs/images/performance-*.svg and prints the Markdown table; RESULT.json's last line is the benchmark's.

Runs in the peers' environment, which has matplotlib.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("svg")
IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
OURS, THEIRS = "#d1495b", "#8d99ae"
NAMES = {"ours": "Flywheel", "straight": "no gateway"}
PLOTS = {
    "pass-through": (
        "pass-through, 32 connections (req/s)",
        "pass-through, 1 connection (p50, ms)",
        "pass-through, CPU time a request (µs)",
    ),
    "cache": ("cache hit from Redis, 32 connections (req/s)", "cache hit in-process, 32 connections (req/s)"),
    "streams": (
        "streams, 32 at once (chunks/s through)",
        "streams, CPU time a chunk (µs)",
        "streams, added time to first token (p50, ms)",
        "streams, added time between tokens (p99, ms)",
    ),
}


def draw(figures: dict[str, Any]) -> None:
    for name, wanted in PLOTS.items():
        shown = [figure for figure in wanted if "ours" in figures.get(figure, {})]
        if not shown:
            continue
        height = 0.9 + 0.42 * max(len(_values(figures[figure])) for figure in shown)
        picture, axes = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), height), squeeze=False)
        for at, figure in zip(axes[0], shown, strict=True):
            _bars(at, figure, _values(figures[figure]))
        picture.tight_layout(w_pad=2)
        picture.savefig(IMAGES / f"performance-{name}.svg", metadata={"Date": None})
        plt.close(picture)


def _values(figure: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figure.items() if name != "ratio"}


def _bars(axes: Axes, title: str, values: dict[str, float]) -> None:
    names = sorted(values, key=values.__getitem__)
    bars = axes.barh(
        [NAMES.get(name, name) for name in names],
        [values[name] for name in names],
        color=[OURS if name == "ours" else THEIRS for name in names],
    )
    wide = max(values.values()) > 100 * min((value for value in values.values() if value > 0), default=1)
    if wide:
        axes.set_xscale("log")
    axes.bar_label(bars, [_short(values[name]) for name in names], padding=3, fontsize=9)
    axes.margins(x=0.25)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("logarithmic" if wide else "", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.xaxis.set_tick_params(labelsize=8)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(figures: dict[str, Any]) -> str:
    lines = ["| figure | ours | peers, and ours ÷ theirs |", "|---|---:|---|"]
    for figure, found in figures.items():
        if figure == "conditions":
            continue
        if "ratio" not in found:
            told = found.get("ours", found)
            lines.append(f"| {figure} | | {', '.join(f'{name}: {value}' for name, value in told.items())} |")
            continue
        peers = [
            f"{NAMES.get(name, name)} {_short(value)}"
            + (f" (×{ratio:.3g})" if (ratio := found["ratio"].get(name)) else "")
            for name, value in _values(found).items()
            if name != "ours"
        ]
        lines.append(f"| {figure} | {_short(found['ours'])} | {' · '.join(peers)} |")
    return "\n".join(lines)


def main() -> None:
    figures = json.loads(Path(sys.argv[1]).read_text().strip().splitlines()[-1])
    draw(figures)
    print(table(figures))


if __name__ == "__main__":
    main()
