"""Fairness of classifiers against tables worked out by hand."""

from pathlib import Path

import pytest

from contracts.encoder_rows import GroupedRow, read_grouped_rows
from contracts.errors import InvalidTrainingFile
from contracts.fairness import PAGE_FILE, FairnessReport, LabelFairness
from workers.evaluate.fairness import fairness_report
from workers.evaluate.fairness_page import write_page

TABLE = {
    # group: rows that have the label and get it, have it alone, get it alone, neither
    "a": (18, 2, 4, 16),
    "b": (6, 4, 3, 27),
}


def report(table: dict[str, tuple[int, int, int, int]], *, positive: str | None = "yes") -> FairnessReport:
    rows = [
        (right, given, group)
        for group, counts in table.items()
        for (right, given), count in zip(
            (("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")), counts, strict=True
        )
        for _ in range(count)
    ]
    right, given, groups = zip(*rows, strict=True)
    return fairness_report(right, given, groups, model="m", sensitive="gender", positive=positive)


def only_label(found: FairnessReport) -> LabelFairness:
    (label,) = found.labels
    return label


def test_rates_of_each_group_are_those_counted_by_hand():
    found = report(TABLE)
    assert {group: share.mean for group, share in found.accuracy.items()} == pytest.approx({"a": 34 / 40, "b": 33 / 40})
    rates = only_label(found).groups
    assert (rates["a"].selection_rate.mean, rates["b"].selection_rate.mean) == pytest.approx((22 / 40, 9 / 40))
    assert rates["a"].recall is not None
    assert rates["b"].recall is not None
    assert (rates["a"].recall.mean, rates["b"].recall.mean) == pytest.approx((18 / 20, 6 / 10))
    assert rates["a"].false_positive_rate is not None
    assert rates["b"].false_positive_rate is not None
    assert (rates["a"].false_positive_rate.mean, rates["b"].false_positive_rate.mean) == pytest.approx((4 / 20, 3 / 30))
    assert (rates["b"].selection_rate.rows, rates["b"].recall.rows, rates["b"].false_positive_rate.rows) == (40, 10, 30)
    assert found.warnings == ()


def test_differences_are_between_the_groups_that_differ_most_and_lie_in_their_intervals():
    found = only_label(report(TABLE))
    parity, ratio, odds = (
        found.demographic_parity_difference,
        found.demographic_parity_ratio,
        found.equalized_odds_difference,
    )
    assert ratio is not None
    assert odds is not None
    assert parity.value == pytest.approx(22 / 40 - 9 / 40)
    assert ratio.value == pytest.approx(9 / 22)
    assert odds.value == pytest.approx(18 / 20 - 6 / 10)  # of recall; that of the false positive rate is 0.1
    for figure in (parity, ratio, odds):
        assert figure.low < figure.value < figure.high
    # of a difference of shares the standard error has a formula: 1.96 times it, either way
    reach = 1.96 * (22 / 40 * 18 / 40 / 40 + 9 / 40 * 31 / 40 / 40) ** 0.5
    assert (parity.low, parity.high) == pytest.approx((parity.value - reach, parity.value + reach), abs=0.03)


def test_a_p_value_tells_a_difference_from_chance():
    found = only_label(report(TABLE))
    # 22 of 40 rows and 9 of 40 get the label: p by Fisher's exact test, two-sided, is 0.0055
    assert found.demographic_parity_p_value == pytest.approx(0.0055, abs=0.003)
    alike = only_label(report({"a": (10, 10, 5, 15), "b": (20, 20, 10, 30)}))
    assert alike.demographic_parity_difference.value == pytest.approx(0)
    assert alike.demographic_parity_p_value == pytest.approx(1)
    assert alike.equalized_odds_p_value == pytest.approx(1)


def test_without_a_positive_label_all_are_measured():
    no, yes = report(TABLE, positive=None).labels
    assert (no.label, yes.label) == ("no", "yes")
    assert no.demographic_parity_difference.value == pytest.approx(yes.demographic_parity_difference.value)
    assert no.groups["a"].recall is not None
    assert no.groups["a"].recall.mean == pytest.approx(16 / 20)


def test_a_rate_of_no_rows_is_not_known_and_few_rows_are_warned_of():
    found = report({"a": (18, 2, 4, 16), "b": (0, 0, 3, 17)})
    label = only_label(found)
    assert label.groups["b"].recall is None
    assert (label.equalized_odds_difference, label.equalized_odds_p_value) == (None, None)
    few, unknown = found.warnings
    assert "`b`" in few
    assert "20" in few
    assert "no row of `b` has it" in unknown


def test_a_label_that_nobody_gets_has_no_ratio():
    label = only_label(report({"a": (0, 20, 0, 20), "b": (0, 20, 0, 20)}))
    assert label.demographic_parity_ratio is None
    assert label.demographic_parity_difference.value == 0


def test_groups_may_be_numbers_and_rows_have_other_columns():
    lines = [b'{"item": {"text": "t%d", "label": "x", "age": %d, "note": "n"}}\n' % (n, n % 2) for n in range(4)]
    assert list(read_grouped_rows(lines, "age"))[:2] == [GroupedRow("t0", "x", "0"), GroupedRow("t1", "x", "1")]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ('{"text": "t", "label": "x"}', "sensitive"),
        ('{"text": "t", "label": "x", "age": null}', "sensitive"),
        ('{"text": "t", "label": "x", "age": " "}', "sensitive"),
        ('{"text": "t", "age": 1}', "file"),
        ('{"text": 1, "label": "x", "age": 1}', "file"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_the_field(item: str, param: str):
    lines = [b'{"item": {"text": "t", "label": "x", "age": 1}}\n', b'{"item": %b}\n' % item.encode()]
    with pytest.raises(InvalidTrainingFile, match="Row 2") as raised:
        list(read_grouped_rows(lines, "age"))
    assert raised.value.param == param


def test_the_page_shows_names_of_users_as_they_are(tmp_path: Path):
    rows = [("<b>", "<b>", "$x^$"), ("<b>", "$", "$x^$"), ("$", "$", "<i>"), ("$", "<b>", "<i>")]
    right, given, groups = zip(*rows, strict=True)
    write_page(fairness_report(right, given, groups, model="m", sensitive="$_"), tmp_path)
    page = (tmp_path / PAGE_FILE).read_text()
    assert page.count("<svg") == 2
    assert "<b>" not in page
    assert "<i>" not in page
    assert "$x^$" in page[page.index("<svg") :]
