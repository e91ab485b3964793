"""How differently a classifier treats groups of people (by fairlearn; Bird et al., 2020)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fairlearn.metrics import (
    MetricFrame,
    count,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score

from contracts.bias import Figure
from contracts.evals import Interval
from contracts.fairness import LEAST_ROWS, FairnessReport, LabelFairness, Rates
from workers.evaluate.statistics import CONFIDENCE, share_interval

RESAMPLES = 2000
ROUNDING = 1e-12


def fairness_report(
    right: Sequence[str],
    given: Sequence[str],
    groups: Sequence[str],
    *,
    model: str,
    sensitive: str,
    positive: str | None = None,
) -> FairnessReport:
    """Of each row the right label, the label given, and the group. Of all labels, or of `positive` alone."""
    labels = sorted({*right, *given}) if positive is None else [positive]
    found = tuple(_of_label(label, right, given, groups) for label in labels)
    accuracy = MetricFrame(
        metrics={"rows": count, "share": accuracy_score}, y_true=right, y_pred=given, sensitive_features=groups
    ).by_group
    by_group = {str(group): _share(row.share, row.rows) for group, row in accuracy.iterrows()}
    return FairnessReport(
        model=model,
        sensitive=sensitive,
        accuracy=by_group,
        labels=found,
        warnings=(*_of_few_rows(sensitive, by_group), *filter(None, map(_of_unknown_rates, found))),
    )


def _of_label(label: str, right: Sequence[str], given: Sequence[str], groups: Sequence[str]) -> LabelFairness:
    has, gets = (np.array([each == label for each in labels], dtype=int) for labels in (right, given))
    of_rows: dict[str, Any] = {"y_true": has, "y_pred": gets, "sensitive_features": groups}
    measured = MetricFrame(
        metrics={
            "rows": count,
            "having": lambda true, _: true.sum(),
            "selection_rate": selection_rate,
            "recall": true_positive_rate,
            "false_positive_rate": false_positive_rate,
        },
        **of_rows,
    ).by_group
    cells = _cells(has, gets, groups)
    resampled = _Rates(_resampled(cells))
    odds_are_known = bool((cells.sum(axis=2) > 0).all())
    odds = float(equalized_odds_difference(**of_rows)) if odds_are_known else None
    parity = float(demographic_parity_difference(**of_rows))
    by_chance = _Rates(_permuted(cells.sum(axis=1, keepdims=True)))
    return LabelFairness(
        label=label,
        groups={
            str(group): Rates(
                selection_rate=_share(row.selection_rate, row.rows),
                recall=_share(row.recall, row.having) if row.having else None,
                false_positive_rate=_share(row.false_positive_rate, row.rows - row.having)
                if row.rows > row.having
                else None,
            )
            for group, row in measured.iterrows()
        },
        demographic_parity_difference=_figure(parity, resampled.parity_difference()),
        demographic_parity_p_value=_p_value(parity, by_chance.parity_difference()),
        demographic_parity_ratio=_figure(float(demographic_parity_ratio(**of_rows)), resampled.parity_ratio())
        if gets.any()
        else None,
        equalized_odds_difference=None if odds is None else _figure(odds, resampled.odds_difference()),
        equalized_odds_p_value=None if odds is None else _p_value(odds, _Rates(_permuted(cells)).odds_difference()),
    )


def _cells(has: Any, gets: Any, groups: Sequence[str]) -> Any:
    """Rows counted: (groups, 2 for those that do not and do have the label, 2 for those that do not and do get it)."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    cells = np.zeros((len(names), 2, 2), dtype=int)
    np.add.at(cells, (place, has, gets), 1)
    return cells


class _Rates:
    """Differences between groups in each of many tables. `cells`: (tables, groups, 2, 2), as `_cells` counts them."""

    def __init__(self, cells: Any) -> None:
        with np.errstate(invalid="ignore"):  # no rows, no rate: NaN
            self._selection = cells[..., 1].sum(axis=-1) / cells.sum(axis=(-2, -1))
            self._by_right_answer = cells[..., 1] / cells.sum(axis=-1)

    def parity_difference(self) -> Any:
        return np.ptp(self._selection, axis=1)

    def parity_ratio(self) -> Any:
        with np.errstate(invalid="ignore"):
            return self._selection.min(axis=1) / self._selection.max(axis=1)

    def odds_difference(self) -> Any:
        return np.ptp(self._by_right_answer, axis=1).max(axis=1)


def _resampled(cells: Any) -> Any:
    """By the bootstrap of the rows within each group. The same rows give the same."""
    chance = np.random.default_rng(0)
    drawn = [chance.multinomial(each.sum(), each.ravel() / each.sum(), RESAMPLES) for each in cells]
    return np.stack(drawn, axis=1).reshape(RESAMPLES, *cells.shape)


def _permuted(cells: Any) -> Any:
    """With the groups exchanged at random among the rows of the same right answer."""
    chance = np.random.default_rng(0)
    drawn = []
    for rows, gets in zip(cells.sum(axis=2).T, cells[..., 1].sum(axis=0), strict=True):
        selected = chance.multivariate_hypergeometric(rows, gets, RESAMPLES, method="marginals")
        drawn.append(np.stack([rows - selected, selected], axis=-1))
    return np.stack(drawn, axis=2)


def _share(share: float, rows: float) -> Interval:
    return share_interval(round(share * rows), int(rows))


def _figure(value: float, resampled: Any) -> Figure:
    """Resamples without a row that a rate is of say nothing."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Figure(value=value, low=float(low), high=float(high))


def _p_value(value: float, permuted: Any) -> float:
    return float((np.sum(permuted >= value - ROUNDING) + 1) / (RESAMPLES + 1))


def _of_few_rows(sensitive: str, accuracy: dict[str, Interval]) -> list[str]:
    return [
        f"Rows with `{group}` as their `{sensitive}`: {share.rows}. Figures of fewer than {LEAST_ROWS} say little."
        for group, share in accuracy.items()
        if share.rows < LEAST_ROWS
    ]


def _of_unknown_rates(found: LabelFairness) -> str | None:
    unknown = [
        f"no row of `{group}` {'has' if rates.recall is None else 'lacks'} it"
        for group, rates in found.groups.items()
        if rates.recall is None or rates.false_positive_rate is None
    ]
    if not unknown:
        return None
    return f"Equalized odds of the label `{found.label}` are not known: {', '.join(unknown)}."
