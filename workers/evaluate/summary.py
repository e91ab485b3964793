"""Sums a run's rows up."""

from collections.abc import Sequence

from contracts.eval_criteria import Criterion
from contracts.evals import CriterionCounts, CriterionStatistics, ItemResult, OutputItem
from workers.evaluate.statistics import agreement, confusion, mean_interval, paired_difference, share_interval

Scored = tuple[OutputItem, ItemResult]


def counts_of(criteria: Sequence[Criterion], items: Sequence[OutputItem]) -> tuple[CriterionCounts, ...]:
    found = []
    for criterion in criteria:
        passed = [result.passed for _, result in _of(criterion, items)]
        counts = CriterionCounts(testing_criteria=criterion.name, passed=sum(passed), failed=passed.count(False))
        found.append(counts)
    return tuple(found)


def statistics_of(
    criteria: Sequence[Criterion], items: Sequence[OutputItem], baseline: Sequence[OutputItem]
) -> tuple[CriterionStatistics, ...]:
    """Of each criterion that graded any row. `baseline` are the rows of an earlier run, none where there is none."""
    return tuple(
        _statistics(criterion, scored, baseline) for criterion in criteria if (scored := _of(criterion, items))
    )


def _statistics(criterion: Criterion, scored: list[Scored], baseline: Sequence[OutputItem]) -> CriterionStatistics:
    results = [result for _, result in scored]
    before = {_key(item): result.score for item, result in _of(criterion, baseline)}
    pairs = [(before[_key(item)], result.score) for item, result in scored if _key(item) in before]
    orders = [labels for result in results if len(labels := (result.sample or {}).get("labels", ())) > 1]
    referred = [
        (result.sample["reference"], result.sample["label"])
        for result in results
        if result.sample is not None and "reference" in result.sample
    ]
    references, labels = [pair[0] for pair in referred], [pair[1] for pair in referred]
    return CriterionStatistics(
        name=criterion.name,
        score=mean_interval([result.score for result in results]),
        pass_rate=share_interval(sum(result.passed for result in results), len(results)),
        against_baseline=paired_difference(*zip(*pairs, strict=True)) if pairs else None,
        in_either_order=agreement([pair[0] for pair in orders], [pair[1] for pair in orders]) if orders else None,
        with_reference=agreement(references, labels) if referred else None,
        confusion=confusion(references, labels) if referred else None,
    )


def _of(criterion: Criterion, items: Sequence[OutputItem]) -> list[Scored]:
    return [(item, result) for item in items for result in item.results if result.name == criterion.name]


def _key(item: OutputItem) -> tuple[int, str]:
    """Rows are the same where they stand in the same place and say the same."""
    return item.position, repr(sorted(item.item.items()))
