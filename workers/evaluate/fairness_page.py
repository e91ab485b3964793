"""Writes what is found of a classifier's fairness as a page to read."""

from pathlib import Path

from contracts.bias import Gap
from contracts.fairness import PAGE_FILE, FairnessReport, LabelFairness
from workers.evaluate import pictures
from workers.evaluate.report import render

MOST_DRAWN = 12
"""Labels: those whose groups differ most."""


def write_page(report: FairnessReport, folder: Path) -> None:
    by_difference = sorted(report.labels, key=lambda found: -found.demographic_parity_difference.value)
    drawn = {found.label: pictures.groups(_gap(report.sensitive, found)) for found in by_difference[:MOST_DRAWN]}
    page = render("fairness.html.j2", pictures=drawn, report=report)
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")


def _gap(sensitive: str, found: LabelFairness) -> Gap:
    return Gap(
        axis=sensitive,
        measure=f"share that gets “{pictures.short(found.label)}”",
        groups={group: rates.selection_rate for group, rates in found.groups.items()},
        gap=found.demographic_parity_difference.value,
        p_value=found.demographic_parity_p_value,
    )
