"""What was found out about a model: evaluations, bias reports, releases."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from contracts.bias import BIAS_FAMILY, REPORT_FIELD, BiasReport
from contracts.evals import EvalRun
from contracts.releases import Release
from store.database import Database
from store.evals import ended_runs, to_run
from store.releases import to_release
from store.tables import JobEventRow, JobRow, ReleaseRow

MOST = 50


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """Newest first. `evaluations` are pairs of the eval's name and a run that has ended."""

    evaluations: tuple[tuple[str, EvalRun], ...]
    bias: BiasReport | None
    releases: tuple[Release, ...]


def history_of(database: Database, model: str, *, tenant: str) -> ModelHistory:
    """What the tenant knows of a model. Three queries."""
    reports = (
        select(JobEventRow)
        .join(JobRow, JobRow.id == JobEventRow.job)
        .where(
            JobRow.tenant == tenant,
            JobRow.family == BIAS_FAMILY,
            JobRow.status == "succeeded",
            JobRow.spec["model"].as_string() == model,
            JobEventRow.type == "metrics",
        )
        .order_by(JobEventRow.sequence.desc())
        .limit(MOST)
    )
    releases = (
        select(ReleaseRow)
        .where(ReleaseRow.candidate == model, ReleaseRow.tenant == tenant)
        .order_by(ReleaseRow.created_at.desc())
        .limit(MOST)
    )
    with database.session() as session:
        told: list[dict[str, Any]] = [row.data for row in session.scalars(reports) if REPORT_FIELD in row.data]
        return ModelHistory(
            evaluations=tuple(
                (name, to_run(row)) for name, row in session.execute(ended_runs(model, tenant).limit(MOST)).tuples()
            ),
            bias=BiasReport.model_validate(told[0][REPORT_FIELD]) if told else None,
            releases=tuple(to_release(row) for row in session.scalars(releases)),
        )
