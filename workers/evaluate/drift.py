"""Whether a scheduled run's scores are what they were: beside its baseline row by row, and beside all runs before."""

from collections.abc import Sequence
from typing import Literal

from contracts.eval_schedules import AlertRule, EvalSchedule
from contracts.evals import ControlChart, CriterionStatistics, Direction, Drift, EvalRun, PairedDifference, RunResults
from workers.evaluate.control_chart import chart
from workers.run import JobRun

Seen = tuple[Literal["baseline", "history"], float]


def watch(of_run: EvalRun, statistics: Sequence[CriterionStatistics], run: JobRun) -> tuple[Drift, ...]:
    """Of the criteria that the run's schedule watches; its alert is set too. Nothing for a run that nobody scheduled,
    or that was under way when its schedule was changed.

    Raises LeaseLost.
    """
    schedules = run.resources.schedules
    schedule = None if of_run.schedule is None else schedules.get(of_run.schedule, tenant=of_run.tenant)
    if schedule is None or of_run.created_at < schedule.watched_since:
        return ()
    before = [earlier.results for earlier in schedules.runs_before(of_run, schedule)]
    found = drift_of(of_run, statistics, before, schedule)
    for each in found:
        if each.direction != "none":
            run.message(_told(each), level="warn" if each.direction == "worse" else "info")
    if before:
        schedules.set_drift(schedule.id, direction_of(found), job=run.job.id, fence=run.fence)
    return found


def drift_of(
    of_run: EvalRun, statistics: Sequence[CriterionStatistics], before: Sequence[RunResults], schedule: EvalSchedule
) -> tuple[Drift, ...]:
    """`before` are the results of earlier runs, oldest first."""
    watched = [each for each in statistics if schedule.criteria is None or each.name in schedule.criteria]
    alert = schedule.alert.model_copy(update={"p_value": schedule.alert.p_value / max(1, len(watched))})
    return tuple(_drift(each, of_run.baseline, _means(each.name, before), alert) for each in watched)


def direction_of(found: Sequence[Drift]) -> Direction:
    """Of a whole run: it got worse where it did so by any criterion."""
    directions = {each.direction for each in found}
    return "worse" if "worse" in directions else "better" if "better" in directions else "none"


def _drift(found: CriterionStatistics, baseline: str | None, before: Sequence[float], alert: AlertRule) -> Drift:
    charted = chart([*before, found.score.mean], rows=found.score.rows)
    seen = [*_beside_baseline(found.against_baseline, alert), *_beside_history(charted, alert)]
    return Drift(
        criterion=found.name,
        direction="none" if not seen else "better" if seen[0][1] > 0 else "worse",
        seen_by=tuple(by for by, _ in seen),
        baseline=baseline if found.against_baseline is not None else None,
        against_baseline=found.against_baseline,
        chart=charted,
    )


def _beside_baseline(against: PairedDifference | None, alert: AlertRule) -> list[Seen]:
    if against is None or against.p_value >= alert.p_value or abs(against.difference) < alert.difference:
        return []
    return [("baseline", against.difference)]


def _beside_history(charted: ControlChart | None, alert: AlertRule) -> list[Seen]:
    if charted is None or charted.low <= charted.average <= charted.high:
        return []
    difference = charted.average - charted.centre
    return [("history", difference)] if abs(difference) >= alert.difference else []


def _means(criterion: str, before: Sequence[RunResults]) -> list[float]:
    return [each.score.mean for results in before for each in results.statistics if each.name == criterion]


def _told(found: Drift) -> str:
    against, charted = found.against_baseline, found.chart
    if "baseline" in found.seen_by and against is not None:
        return (
            f"{found.criterion} got {found.direction} than in `{found.baseline}`: {against.difference:+.4f} "
            f"({against.low:+.4f} to {against.high:+.4f}, p = {against.p_value:.4f})."
        )
    assert charted is not None
    return (
        f"{found.criterion} got {found.direction} over the last runs: their moving average {charted.average:.4f} left "
        f"{charted.low:.4f} to {charted.high:.4f}, where it stays while nothing changes."
    )
