"""docs/images/fleet-*.svg: how policies compare as the fleet grows, and what growth costs a gateway."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("svg")
mpl.rcParams["svg.fonttype"] = "none"
mpl.rcParams["svg.hashsalt"] = "flywheel"
COLOURS = {"round_robin": "#8d99ae", "least_loaded": "#0072B2", "prefix_aware": "#d1495b"}
PANELS = {
    "ttft_p50_ms": "time to first token, p50 (ms)",
    "ttft_p99_ms": "time to first token, p99 (ms)",
    "hit_rate": "prefix hit rate",
    "busiest_to_mean": "busiest engine ÷ mean (requests)",
}


def draw_policies(runs: Sequence[dict[str, Any]], growing: str, folder: Path) -> None:
    picture, axes = plt.subplots(1, len(PANELS), figsize=(3.4 * len(PANELS), 3.2))
    for at, (figure, title) in zip(axes, PANELS.items(), strict=True):
        for policy, colour in COLOURS.items():
            at.plot(
                [run[growing] for run in runs],
                [run[policy][figure] for run in runs],
                "o-",
                color=colour,
                label=_named(policy),
            )
        at.set_xscale("log", base=2)
        at.set_ylim(bottom=0)
        _dress(at, title, growing, [run[growing] for run in runs])
    axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    _save(picture, folder / f"fleet-{growing}.svg")


def draw_growth(costs: Sequence[dict[str, Any]], folder: Path) -> None:
    picture, (choice, look, memory) = plt.subplots(1, 3, figsize=(10.8, 3.2))
    sizes = [cost["engines"] for cost in costs]
    for policy, colour in COLOURS.items():
        choice.plot(sizes, [cost[f"{policy}_us"] for cost in costs], "o-", color=colour, label=_named(policy))
    look.plot(sizes, [cost["look_at_leases_ms"] for cost in costs], "o-", color="#444")
    memory.plot(sizes, [cost["memory_idle_mib"] for cost in costs], "o--", color="#888", label="idle")
    memory.plot(sizes, [cost["memory_mib"] for cost in costs], "o-", color="#444", label="after its requests")
    titles = ("one choice (µs)", "one look at all leases (ms)", "memory of a gateway's fleet (MiB)")
    for at, title in zip((choice, look, memory), titles, strict=True):
        at.set_xscale("log")
        at.set_yscale("log")
        _dress(at, title, "engines", sizes)
    for at in (choice, memory):
        at.legend(fontsize=8, frameon=False)
    _save(picture, folder / "fleet-growth.svg")


def _dress(axes: Axes, title: str, growing: str, sizes: Sequence[int]) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(growing, fontsize=8)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.grid(color="#eee")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _named(policy: str) -> str:
    return policy.replace("_", " ")


def _save(picture: Any, file: Path) -> None:
    picture.tight_layout(w_pad=2)
    picture.savefig(file, metadata={"Date": None})
    plt.close(picture)
