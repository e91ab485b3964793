"""Evaluations in SQL. A run's rows are written under the fence of its job, so that each is graded and told once."""

import time
from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import Select, func, select

from contracts.eval_criteria import Criterion
from contracts.evals import (
    RUN_STATUSES,
    DataSource,
    DataSourceConfig,
    Eval,
    EvalRun,
    ItemStatus,
    OutputItem,
    ResultCounts,
    RunResults,
    RunState,
    RunStatus,
)
from contracts.identifiers import new_id
from contracts.jobs import JobError
from store.database import Database
from store.job_rows import held_job
from store.paging import Order, paged
from store.tables import EvalItemRow, EvalRow, EvalRunRow, JobRow

EvalOrder = Literal["created_at", "updated_at"]


class EvalRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    # -- evals

    def create(
        self,
        *,
        tenant: str,
        name: str,
        config: DataSourceConfig,
        criteria: Sequence[Criterion],
        metadata: dict[str, str],
    ) -> Eval:
        now = int(time.time())
        row = EvalRow(
            id=new_id("eval"),
            tenant=tenant,
            name=name,
            data_source_config=config.model_dump(mode="json"),
            testing_criteria=[criterion.model_dump(mode="json", by_alias=True) for criterion in criteria],
            metadata_=metadata,
            created_at=now,
            updated_at=now,
        )
        with self._database.session() as session:
            session.add(row)
        return _to_eval(row)

    def get(self, eval_id: str, *, tenant: str) -> Eval | None:
        with self._database.session() as session:
            row = session.get(EvalRow, eval_id)
            return _to_eval(row) if row is not None and row.tenant == tenant else None

    def page(
        self, *, tenant: str, after: str | None, limit: int, order: Order = "asc", by: EvalOrder = "created_at"
    ) -> list[Eval]:
        query = select(EvalRow).where(EvalRow.tenant == tenant)
        columns = (EvalRow.created_at if by == "created_at" else EvalRow.updated_at, EvalRow.id)
        with self._database.session() as session:
            cursor = None if after is None else session.get(EvalRow, after)
            place = None if cursor is None else (getattr(cursor, by), cursor.id)
            return [_to_eval(row) for row in session.scalars(paged(query, columns, place, order).limit(limit))]

    def update(self, eval_id: str, *, tenant: str, name: str | None, metadata: dict[str, str] | None) -> Eval | None:
        """None leaves a field as it is; None is returned if the tenant has no such eval."""
        with self._database.session() as session:
            row = session.get(EvalRow, eval_id)
            if row is None or row.tenant != tenant:
                return None
            row.name = row.name if name is None else name
            row.metadata_ = row.metadata_ if metadata is None else metadata
            row.updated_at = int(time.time())
            return _to_eval(row)

    def delete(self, eval_id: str, *, tenant: str) -> list[EvalRun] | None:
        """With its runs, which are returned; None if the tenant has no such eval."""
        with self._database.session() as session:
            row = session.get(EvalRow, eval_id)
            if row is None or row.tenant != tenant:
                return None
            runs = [to_run(run) for run in session.scalars(select(EvalRunRow).where(EvalRunRow.eval == eval_id))]
            session.delete(row)
            return runs

    # -- runs

    def add_run(
        self,
        run_id: str,
        *,
        of: Eval,
        job: str,
        name: str,
        data_source: DataSource,
        baseline: str | None,
        metadata: dict[str, str],
    ) -> EvalRun:
        row = EvalRunRow(
            id=run_id,
            eval=of.id,
            tenant=of.tenant,
            job=job,
            name=name,
            data_source=data_source.model_dump(mode="json"),
            baseline=baseline,
            metadata_=metadata,
            results={},
            created_at=int(time.time()),
        )
        with self._database.session() as session:
            session.add(row)
        return to_run(row)

    def run(self, run_id: str) -> EvalRun | None:
        with self._database.session() as session:
            row = session.get(EvalRunRow, run_id)
            return None if row is None else to_run(row)

    def runs(
        self,
        eval_id: str,
        *,
        after: str | None,
        limit: int | None,
        order: Order = "asc",
        status: RunStatus | None = None,
    ) -> list[EvalRun]:
        query = select(EvalRunRow).where(EvalRunRow.eval == eval_id)
        if status is not None:
            wanted = [job_status for job_status, told in RUN_STATUSES.items() if told == status]
            query = query.join(JobRow, JobRow.id == EvalRunRow.job).where(JobRow.status.in_(wanted))
        with self._database.session() as session:
            cursor = None if after is None else session.get(EvalRunRow, after)
            place = None if cursor is None else (cursor.created_at, cursor.id)
            columns = (EvalRunRow.created_at, EvalRunRow.id)
            return [to_run(row) for row in session.scalars(paged(query, columns, place, order).limit(limit))]

    def states(self, runs: Iterable[EvalRun]) -> dict[str, RunState]:
        """How each of them stands. Two queries, however many they are."""
        jobs = {run.id: run.job for run in runs}
        of_jobs = select(JobRow.id, JobRow.status, JobRow.error).where(JobRow.id.in_(jobs.values()))
        counting = (
            select(EvalItemRow.run, EvalItemRow.status, func.count())
            .where(EvalItemRow.run.in_(jobs))
            .group_by(EvalItemRow.run, EvalItemRow.status)
        )
        counts: dict[str, dict[str, int]] = {run: {} for run in jobs}
        with self._database.session() as session:
            found = {row.id: row for row in session.execute(of_jobs)}
            for run, status, count in session.execute(counting):
                counts[run][status] = count
        return {
            run: RunState(
                status=RUN_STATUSES[found[job].status],
                error=None if found[job].error is None else JobError.model_validate(found[job].error),
                counts=_to_counts(counts[run]),
            )
            for run, job in jobs.items()
        }

    def history(self, model: str, *, tenant: str, of_eval: str | None, limit: int) -> list[tuple[str, EvalRun]]:
        """A model's newest runs that ended well, with their evals' names, oldest first; of one eval if it is given."""
        query = ended_runs(model, tenant).limit(limit)
        if of_eval is not None:
            query = query.where(EvalRunRow.eval == of_eval)
        with self._database.session() as session:
            return [(name, to_run(row)) for name, row in session.execute(query)][::-1]

    def delete_run(self, run_id: str) -> None:
        with self._database.session() as session:
            if (row := session.get(EvalRunRow, run_id)) is not None:
                session.delete(row)

    # -- what its job writes

    def add_items(self, items: Sequence[OutputItem], *, job: str, fence: int) -> None:
        """All of them or none. Raises LeaseLost."""
        with self._database.session() as session:
            held_job(session, job, fence)
            session.add_all([EvalItemRow(**item.model_dump(mode="json")) for item in items])

    def set_results(self, run_id: str, results: RunResults, *, job: str, fence: int) -> None:
        """Raises LeaseLost. Nothing happens where the run was deleted."""
        with self._database.session() as session:
            held_job(session, job, fence)
            if (row := session.get(EvalRunRow, run_id)) is not None:
                row.results = results.model_dump(mode="json")

    # -- its rows

    def items(
        self,
        run_id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Order = "asc",
        status: ItemStatus | None = None,
    ) -> list[OutputItem]:
        """In the order of the data."""
        query = select(EvalItemRow).where(EvalItemRow.run == run_id)
        if status is not None:
            query = query.where(EvalItemRow.status == status)
        with self._database.session() as session:
            cursor = None if after is None else session.get(EvalItemRow, after)
            place = None if cursor is None else (cursor.position, cursor.id)
            query = paged(query, (EvalItemRow.position, EvalItemRow.id), place, order)
            return [_to_item(row) for row in session.scalars(query if limit is None else query.limit(limit))]

    def item(self, item_id: str, *, run: str) -> OutputItem | None:
        with self._database.session() as session:
            row = session.get(EvalItemRow, item_id)
            return _to_item(row) if row is not None and row.run == run else None

    def positions(self, run_id: str) -> set[int]:
        """Of the rows that are done."""
        with self._database.session() as session:
            return set(session.scalars(select(EvalItemRow.position).where(EvalItemRow.run == run_id)))


def ended_runs(model: str, tenant: str) -> Select[str, EvalRunRow]:
    """Runs that ended well, with their evals' names, newest first."""
    return (
        select(EvalRow.name, EvalRunRow)
        .join(EvalRow, EvalRow.id == EvalRunRow.eval)
        .join(JobRow, JobRow.id == EvalRunRow.job)
        .where(
            EvalRunRow.tenant == tenant,
            EvalRunRow.data_source["model"].as_string() == model,
            JobRow.status == "succeeded",
        )
        .order_by(EvalRunRow.created_at.desc(), EvalRunRow.id.desc())
    )


def _to_counts(counts: dict[str, int]) -> ResultCounts:
    return ResultCounts(
        total=sum(counts.values()),
        passed=counts.get("pass", 0),
        failed=counts.get("fail", 0),
        errored=counts.get("error", 0),
    )


def _to_eval(row: EvalRow) -> Eval:
    fields = {name: getattr(row, name) for name in Eval.model_fields if name != "metadata"}
    return Eval.model_validate(fields | {"metadata": row.metadata_})


def to_run(row: EvalRunRow) -> EvalRun:
    fields = {name: getattr(row, name) for name in EvalRun.model_fields if name != "metadata"}
    return EvalRun.model_validate(fields | {"metadata": row.metadata_})


def _to_item(row: EvalItemRow) -> OutputItem:
    return OutputItem.model_validate(row, from_attributes=True)
