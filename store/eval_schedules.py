"""Schedules of evaluations in SQL. Whoever finds one due makes its run; of several who do so at once, one does."""

from typing import Any

from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.orm import Session

from contracts.eval_schedules import FIRST, LAST, AlertRule, DueRun, EvalSchedule, NewSchedule, ScheduleState, Timing
from contracts.evals import RUN_FAMILY, Direction, EvalRun, EvalRunSpec
from contracts.identifiers import new_id
from contracts.jobs import FINAL_STATUSES, JobQueueName
from store.database import Database
from store.evals import to_run
from store.job_rows import add_job, held_job
from store.paging import newest_first, paged
from store.schedule_times import next_time
from store.tables import EvalRunRow, EvalScheduleRow, JobRow

MOST_RUNS = 1000
"""Of a schedule's history."""
STATES: tuple[ScheduleState, ...] = ("steady", "better", "worse", "failed")


class EvalScheduleRepository:
    """Times are Unix seconds, and `now` is the caller's, so that a test can be any time it likes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what people ask of a schedule

    def create(self, eval_id: str, wanted: NewSchedule, *, tenant: str, creator: str, now: int) -> EvalSchedule:
        """An interval begins at once. Raises ValueError for a time that never comes."""
        row = EvalScheduleRow(
            id=new_id("evalsched"),
            eval=eval_id,
            tenant=tenant,
            creator=creator,
            paused=False,
            next_run_at=_first_time(wanted.timing, now),
            watched_since=now,
            created_at=now,
            updated_at=now,
            **wanted.model_dump(mode="json"),
        )
        with self._database.session() as session:
            session.add(row)
        return _to_schedule(row)

    def get(self, schedule_id: str, *, tenant: str) -> EvalSchedule | None:
        with self._database.session() as session:
            row = session.get(EvalScheduleRow, schedule_id)
            return _to_schedule(row) if row is not None and row.tenant == tenant else None

    def page(self, *, tenant: str, after: str | None, limit: int) -> list[EvalSchedule]:
        """Newest first."""
        query = select(EvalScheduleRow).where(EvalScheduleRow.tenant == tenant)
        with self._database.session() as session:
            query = newest_first(session, query, EvalScheduleRow, after)
            return [_to_schedule(row) for row in session.scalars(query.limit(limit))]

    def change(
        self,
        schedule_id: str,
        *,
        tenant: str,
        now: int,
        name: str | None = None,
        timing: Timing | None = None,
        baseline: str | None = None,
        alert: AlertRule | None = None,
        paused: bool | None = None,
    ) -> EvalSchedule | None:
        """None leaves a field as it is. Another baseline begins the history anew; a new timing, and the end of a pause,
        set the next run. None is returned if the tenant has no such schedule. Raises ValueError as `create`.
        """
        with self._database.session() as session:
            row = _lock(session, schedule_id)
            if row is None or row.tenant != tenant:
                return None
            told: dict[str, Any] = {"name": name, "baseline": baseline, "paused": paused}
            told |= {"timing": timing and timing.model_dump(), "alert": alert and alert.model_dump()}
            if timing is not None or (row.paused and paused is False):
                row.next_run_at = _first_time(timing or Timing.model_validate(row.timing), now)
            if baseline is not None:
                row.watched_since, row.drift = now + 1, None
            for field, value in told.items():
                if value is not None:
                    setattr(row, field, value)
            row.updated_at = now
            return _to_schedule(row)

    def delete(self, schedule_id: str, *, tenant: str) -> bool:
        """Its runs stay. False if the tenant has no such schedule."""
        with self._database.session() as session:
            row = session.get(EvalScheduleRow, schedule_id)
            if row is None or row.tenant != tenant:
                return False
            session.delete(row)
            return True

    # -- what workers do with it

    def make_due(self, now: int, *, queue: JobQueueName) -> list[DueRun]:
        """Makes a run and its job for each schedule whose time has come, and says when its next one is.

        Each run, its job and the claim are one transaction, so that of any number of callers one makes it, whole or not
        at all. Times that passed while nobody looked are made up for by one run. One small query where nothing is due.
        """
        due = select(EvalScheduleRow.id).where(EvalScheduleRow.paused.is_(False), EvalScheduleRow.next_run_at <= now)
        with self._database.session() as session:
            found = list(session.scalars(due.order_by(EvalScheduleRow.next_run_at, EvalScheduleRow.id)))
        made = [self._make(schedule_id, now, queue) for schedule_id in found]
        return [run for run in made if run is not None]

    def runs_before(self, run: EvalRun, schedule: EvalSchedule) -> list[EvalRun]:
        """Those of the schedule that ended well since it has watched the same, oldest first."""
        ended, columns = _ended_well(schedule.id, schedule.watched_since), (EvalRunRow.created_at, EvalRunRow.id)
        query = paged(ended, columns, (run.created_at, run.id), "desc").limit(MOST_RUNS)
        with self._database.session() as session:
            return [to_run(row) for row in session.scalars(query)][::-1]

    def set_drift(self, schedule_id: str, direction: Direction, *, job: str, fence: int) -> None:
        """Raises LeaseLost. Nothing happens where the schedule was deleted."""
        with self._database.session() as session:
            held_job(session, job, fence)
            if (row := _lock(session, schedule_id)) is not None:
                row.drift = direction

    # -- what those ask who watch over it

    def counts(self) -> dict[tuple[str, str], int]:
        """How many schedules that are not paused stand how, by the name of the model that they ask. One query.

        `failed` is one whose newest run that has ended failed; the others are as their last comparison was.
        """
        newest = (
            select(JobRow.status)
            .join(EvalRunRow, EvalRunRow.job == JobRow.id)
            .where(EvalRunRow.schedule == EvalScheduleRow.id, JobRow.status.in_(("succeeded", "failed")))
            .order_by(*_newest_first())
            .limit(1)
            .correlate(EvalScheduleRow)
            .scalar_subquery()
        )
        model = EvalScheduleRow.data_source["model"].as_string()
        query = select(model, EvalScheduleRow.drift, newest).where(EvalScheduleRow.paused.is_(False))
        counted: dict[tuple[str, str], int] = {}
        with self._database.session() as session:
            for name, drift, status in session.execute(query):
                for state in STATES:
                    counted.setdefault((name, state), 0)
                counted[name, _state_of(drift, status)] += 1
        return counted

    def _make(self, schedule_id: str, now: int, queue: JobQueueName) -> DueRun | None:
        with self._database.session() as session:
            row = _lock(session, schedule_id)
            if row is None or row.paused or row.next_run_at > now:
                return None  # somebody else was quicker
            timing = Timing.model_validate(row.timing)
            row.next_run_at = next_time(timing, after=now, due=row.next_run_at)
            if _is_under_way(session, row.last_run):
                row.skipped_at, row.skip_reason = now, "run_under_way"
                return None
            run_id = row.last_run = new_id("evalrun")
            spec = EvalRunSpec(run=run_id, creator=row.creator)
            job = add_job(
                session,
                family=RUN_FAMILY,
                tenant=row.tenant,
                spec=spec.model_dump(mode="json"),
                trace_context={},
                queue=queue,
            )
            session.add(
                EvalRunRow(
                    id=run_id,
                    eval=row.eval,
                    tenant=row.tenant,
                    job=job.id,
                    name=row.name,
                    data_source=row.data_source,
                    baseline=_baseline(session, row),
                    schedule=row.id,
                    metadata_={},
                    results={},
                    created_at=now,
                )
            )
            return DueRun(schedule=row.id, run=run_id, job=job.id, queue=job.queue)


def _lock(session: Session, schedule_id: str) -> EvalScheduleRow | None:
    """The row, which nobody else can change until this transaction ends (see store.job_rows.lock_job)."""
    mine = EvalScheduleRow.id == schedule_id
    session.execute(update(EvalScheduleRow).where(mine).values(updated_at=EvalScheduleRow.updated_at))
    return session.get(EvalScheduleRow, schedule_id)


def _first_time(timing: Timing, now: int) -> int:
    return now if timing.every_s is not None else next_time(timing, after=now)


def _is_under_way(session: Session, run_id: str | None) -> bool:
    query = select(JobRow.status).join(EvalRunRow, EvalRunRow.job == JobRow.id).where(EvalRunRow.id == run_id)
    status = session.scalar(query)
    return status is not None and status not in FINAL_STATUSES


def _baseline(session: Session, row: EvalScheduleRow) -> str | None:
    if row.baseline not in (FIRST, LAST):
        return row.baseline
    ended = _ended_well(row.id, row.watched_since)
    order = _newest_first() if row.baseline == LAST else (EvalRunRow.created_at.asc(), EvalRunRow.id.asc())
    found = session.scalars(ended.order_by(*order).limit(1)).first()
    return None if found is None else found.id


def _ended_well(schedule_id: str, since: int) -> Select[EvalRunRow]:
    return (
        select(EvalRunRow)
        .join(JobRow, JobRow.id == EvalRunRow.job)
        .where(EvalRunRow.schedule == schedule_id, EvalRunRow.created_at >= since, JobRow.status == "succeeded")
    )


def _newest_first() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return EvalRunRow.created_at.desc(), EvalRunRow.id.desc()


def _state_of(drift: str | None, newest_status: str | None) -> ScheduleState:
    if newest_status == "failed":
        return "failed"
    return "better" if drift == "better" else "worse" if drift == "worse" else "steady"


def _to_schedule(row: EvalScheduleRow) -> EvalSchedule:
    return EvalSchedule.model_validate({name: getattr(row, name) for name in EvalSchedule.model_fields})
