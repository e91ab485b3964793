"""What a study found, as tables for a terminal."""

from typing import Any

from rich.text import Text

from cli.tables import make_table, print_table

GIB, MIB = 1 << 30, 1 << 20
COLOURS = {"measured": "default", "not_served": "yellow", "not_begun": "yellow", "failed": "red"}


def print_study(study: dict[str, Any]) -> None:
    """Every variant with its figures or its reason; those on the frontier have a star."""
    streams = study["plan"]["measurement"]["streams"]
    heads = ["size", "start", "memory", "first token", *(f"tok/s ×{count}" for count in streams)]
    table = make_table("variant", *heads, "J/token", "perplexity", "score", "to the baseline")
    for variant in study["variants"]:
        if variant["figures"] is not None:
            table.add_row(*_cells(variant, study))
    print_table(table)
    for variant in study["variants"]:
        if variant["figures"] is None:
            status = variant["status"].replace("_", " ")
            print_table(_words(f"{variant['name']}: {status}", variant["reason"] or "", COLOURS[variant["status"]]))


def _cells(variant: dict[str, Any], study: dict[str, Any]) -> list[str]:
    figures, recommended = variant["figures"], (study["recommendation"] or {}).get("variant")
    alone = figures["loads"][0]
    mark = " ◀" if variant["name"] == recommended else " *" if variant["on_frontier"] else ""
    than = figures["score_difference"]
    return [
        f"{variant['name']}{mark}",
        f"{figures['size_bytes'] / MIB:.0f} MiB",
        f"{figures['start_s']:.0f} s",
        f"{figures['peak_memory_bytes'] / GIB:.2f} GiB",
        f"{alone['ttft_ms']['median']:.0f} ms",
        *(f"{load['tokens_per_second']['median']:.1f}" for load in figures["loads"]),
        "–" if alone["joules_per_token"] is None else f"{alone['joules_per_token']:.2f}",
        f"{figures['perplexity']['mean']:.1f}",
        f"{figures['score']['mean']:.3f} ({figures['score']['low']:.3f}–{figures['score']['high']:.3f})",
        "–" if than is None else f"{than['mean']:+.3f} ({than['low']:+.3f} … {than['high']:+.3f})",
    ]


def _words(first: str, words: str, colour: str) -> Any:
    table = make_table(first)
    table.show_header = False
    table.add_column("reason")
    table.add_row(Text(first, colour), words)
    return table
