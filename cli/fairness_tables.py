"""A classifier's fairness: each group, and the groups that differ most."""

from typing import Any

from cli.tables import make_table, print_table


def print_fairness(found: dict[str, Any]) -> None:
    sensitive = found["sensitive"]
    by_group = make_table(sensitive, "rows", "accuracy (95 % interval)")
    for group, accuracy in found["accuracy"].items():
        by_group.add_row(group, str(accuracy["rows"]), _share(accuracy))
    by_label = make_table("label", sensitive, "selection rate", "recall", "false positive rate")
    between = make_table(
        "label", "demographic parity difference", "p", "demographic parity ratio", "equalized odds difference", "p"
    )
    for label in found["labels"]:
        for group, rates in label["groups"].items():
            shares = (_share(rates[name]) for name in ("selection_rate", "recall", "false_positive_rate"))
            by_label.add_row(label["label"], group, *shares)
        between.add_row(
            label["label"],
            _figure(label["demographic_parity_difference"]),
            f"{label['demographic_parity_p_value']:.3f}",
            _figure(label["demographic_parity_ratio"]),
            _figure(label["equalized_odds_difference"]),
            "" if label["equalized_odds_p_value"] is None else f"{label['equalized_odds_p_value']:.3f}",
        )
    for table in (by_group, by_label, between):
        print()
        print_table(table)
    for warning in found["warnings"]:
        print(f"\nWarning: {warning}")


def _share(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['mean']:.0%} ({interval['low']:.0%} – {interval['high']:.0%})"


def _figure(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['value']:.3f} ({found['low']:.3f} – {found['high']:.3f})"
