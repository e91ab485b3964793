"""The figures of a bias report without and with mitigation, side by side."""

from typing import Any

from cli.tables import make_table, print_table

TITLES = {
    "prompt": "With a system prompt that asks for fairness",
    "embeddings": "Without the directions of gender, age and religion",
}


def print_changes(mitigated: dict[str, Any]) -> None:
    table = make_table("measured", "before", "after", "difference", "p")
    for found in mitigated["changes"]:
        form = ".0%" if found["is_share"] else ".3f"
        cells = [_figure(found[name], form) for name in ("before", "after")]
        p_value = found["p_value"]
        table.add_row(
            found["measured"],
            *cells,
            _figure(found["difference"], f"+{form}"),
            "" if p_value is None else f"{p_value:.3f}",
        )
    print(f"\n{TITLES[mitigated['by']]}\n")
    print_table(table)


def _figure(found: dict[str, float], form: str) -> str:
    return f"{found['value']:{form}} ({found['low']:{form}} – {found['high']:{form}})"
