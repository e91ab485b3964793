"""When schedules are due and what they make, on both databases, with a clock of the test's own."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update

from contracts.eval_schedules import AlertRule, DueRun, EvalSchedule, NewSchedule, Timing
from contracts.evals import (
    RUN_FAMILY,
    DataSourceConfig,
    Eval,
    FileContentRow,
    FileContentSource,
    ReferencedMessages,
    SampledSource,
)
from contracts.graders import StringCheckGrader
from contracts.jobs import JobStatus
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.jobs import JobRepository
from store.schedule_times import next_time
from store.tables import EvalRunRow, JobRow

NOON = int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp())
HOUR = 3600
DAY = 24 * HOUR
SOURCE = SampledSource(
    type="completions",
    source=FileContentSource(type="file_content", content=(FileContentRow(item={"messages": []}),)),
    model="assistant",
    input_messages=ReferencedMessages(type="item_reference", item_reference="item.messages"),
)


@pytest.fixture
def schedules(database: Database) -> EvalScheduleRepository:
    return EvalScheduleRepository(database)


@pytest.fixture
def of(database: Database) -> Eval:
    config = DataSourceConfig(type="custom", item_schema={})
    check = StringCheckGrader(type="string_check", name="exact", input="a", reference="a", operation="eq")
    return EvalRepository(database).create(tenant="acme", name="e", config=config, criteria=[check], metadata={})


def create(schedules: EvalScheduleRepository, of: Eval, *, baseline: str = "first", **timing: object) -> EvalSchedule:
    wanted = NewSchedule(
        name="hourly",
        timing=Timing.model_validate(timing or {"every_s": HOUR}),
        data_source=SOURCE,
        baseline=baseline,
        criteria=None,
        alert=AlertRule(),
    )
    return schedules.create(of.id, wanted, tenant="acme", creator="key_1", now=NOON)


def make(schedules: EvalScheduleRepository, now: int) -> list[DueRun]:
    return schedules.make_due(now, queue="cpu")


def end(database: Database, due: DueRun, status: JobStatus = "succeeded") -> None:
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == due.job).values(status=status))


def now_of(schedules: EvalScheduleRepository, schedule: EvalSchedule) -> EvalSchedule:
    found = schedules.get(schedule.id, tenant="acme")
    assert found is not None
    return found


def test_an_interval_begins_at_once_and_keeps_its_times_however_late_it_is_looked_at(
    database: Database, schedules: EvalScheduleRepository, of: Eval
) -> None:
    schedule = create(schedules, of)
    (first,) = make(schedules, NOON + 5)
    assert now_of(schedules, schedule).next_run_at == NOON + HOUR
    assert make(schedules, NOON + HOUR - 1) == []
    end(database, first)
    (second,) = make(schedules, NOON + HOUR + 59)
    assert now_of(schedules, schedule).last_run == second.run
    assert now_of(schedules, schedule).next_run_at == NOON + 2 * HOUR


def test_a_run_is_an_ordinary_one_with_its_job(database: Database, schedules: EvalScheduleRepository, of: Eval) -> None:
    schedule = create(schedules, of)
    (due,) = make(schedules, NOON)
    run, job = EvalRepository(database).run(due.run), JobRepository(database).get(due.job)
    assert run is not None
    assert job is not None
    assert (run.eval, run.tenant, run.model, run.schedule) == (of.id, "acme", "assistant", schedule.id)
    assert (job.family, job.tenant, job.status) == (RUN_FAMILY, "acme", "queued")
    assert job.spec == {"run": run.id, "creator": "key_1"}
    assert len(JobRepository(database).events(job.id)) == 1


def test_cron_is_due_at_its_times_in_utc(schedules: EvalScheduleRepository, of: Eval) -> None:
    schedule = create(schedules, of, cron="30 4 * * mon")
    assert schedule.next_run_at == int(datetime(2026, 11, 30, 4, 30, tzinfo=UTC).timestamp())
    assert make(schedules, schedule.next_run_at - 1) == []
    assert len(make(schedules, schedule.next_run_at)) == 1
    assert now_of(schedules, schedule).next_run_at == schedule.next_run_at + 7 * DAY


@pytest.mark.parametrize("cron", ["often", "61 * * * *", "* * * *", "0 0 31 2 *", ""])
def test_a_time_that_never_comes_is_refused(cron: str) -> None:
    with pytest.raises(ValueError):
        next_time(Timing(cron=cron), after=NOON)


def test_workers_that_look_at_once_make_one_run(database: Database, of: Eval) -> None:
    schedules = EvalScheduleRepository(database)
    create(schedules, of)
    made: list[DueRun] = []
    start = threading.Barrier(6)

    def look() -> None:
        start.wait()
        made.extend(make(schedules, NOON))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as session:
        assert list(session.scalars(select(EvalRunRow.id))) == [run.run for run in made]
        assert len(list(session.scalars(select(JobRow.id)))) == len(made) == 1


def test_runs_missed_while_everything_was_down_are_made_up_for_by_one(
    schedules: EvalScheduleRepository, of: Eval
) -> None:
    schedule = create(schedules, of)
    assert len(make(schedules, NOON + 3 * DAY + 60)) == 1
    assert make(schedules, NOON + 3 * DAY + 61) == []
    assert now_of(schedules, schedule).next_run_at == NOON + 3 * DAY + HOUR


def test_a_schedule_whose_last_run_goes_on_is_skipped_and_says_so(
    database: Database, schedules: EvalScheduleRepository, of: Eval
) -> None:
    schedule = create(schedules, of)
    (first,) = make(schedules, NOON)
    assert make(schedules, NOON + HOUR) == []
    skipped = now_of(schedules, schedule)
    assert (skipped.skipped_at, skipped.skip_reason, skipped.last_run) == (NOON + HOUR, "run_under_way", first.run)
    end(database, first, "cancelled")
    assert make(schedules, NOON + HOUR + 60) == []
    assert len(make(schedules, NOON + 2 * HOUR)) == 1


def test_a_paused_schedule_makes_nothing_until_it_is_resumed(schedules: EvalScheduleRepository, of: Eval) -> None:
    schedule = create(schedules, of, cron="0 * * * *")
    schedules.change(schedule.id, tenant="acme", now=NOON, paused=True)
    assert make(schedules, NOON + DAY) == []
    resumed = schedules.change(schedule.id, tenant="acme", now=NOON + DAY, paused=False)
    assert resumed is not None
    assert resumed.next_run_at == NOON + DAY + HOUR
    assert make(schedules, NOON + DAY) == []


@pytest.mark.parametrize("baseline", ["first", "last"])
def test_runs_are_compared_with_the_first_or_the_last_that_ended_well(
    database: Database, schedules: EvalScheduleRepository, of: Eval, baseline: str
) -> None:
    create(schedules, of, baseline=baseline)
    runs = []
    for number, status in enumerate(("failed", "succeeded", "succeeded", "failed", "succeeded")):
        (due,) = make(schedules, NOON + number * HOUR)
        runs.append(due.run)
        end(database, due, status)  # type: ignore[arg-type]
    found = [EvalRepository(database).run(run) for run in runs]
    told = [None if run is None or run.baseline is None else runs.index(run.baseline) for run in found]
    assert told == ([None, None, 1, 1, 1] if baseline == "first" else [None, None, 1, 2, 2])


def test_another_baseline_begins_the_history_anew(
    database: Database, schedules: EvalScheduleRepository, of: Eval
) -> None:
    schedule = create(schedules, of)
    (old,) = make(schedules, NOON)
    end(database, old)
    changed = schedules.change(schedule.id, tenant="acme", now=NOON + 60, baseline="first")
    assert changed is not None
    (first,), second = make(schedules, NOON + HOUR), NOON + 2 * HOUR
    end(database, first)
    (later,) = make(schedules, second)
    end(database, later)
    run = EvalRepository(database).run(later.run)
    assert run is not None
    assert run.baseline == first.run
    assert [before.id for before in schedules.runs_before(run, changed)] == [first.run]


def test_schedules_are_of_their_tenant(schedules: EvalScheduleRepository, of: Eval) -> None:
    schedule = create(schedules, of)
    assert schedules.get(schedule.id, tenant="other") is None
    assert schedules.change(schedule.id, tenant="other", now=NOON, paused=True) is None
    assert not schedules.delete(schedule.id, tenant="other")
    assert schedules.page(tenant="other", after=None, limit=10) == []
    assert schedules.page(tenant="acme", after=None, limit=10) == [schedule]


def test_a_schedule_goes_with_its_eval_and_its_runs_stay_without_it(
    database: Database, schedules: EvalScheduleRepository, of: Eval
) -> None:
    kept, gone = create(schedules, of), create(schedules, of)
    due = {run.schedule: run for run in make(schedules, NOON)}
    assert schedules.delete(gone.id, tenant="acme")
    run = EvalRepository(database).run(due[gone.id].run)
    assert run is not None
    assert run.schedule == gone.id
    EvalRepository(database).delete(of.id, tenant="acme")
    assert schedules.get(kept.id, tenant="acme") is None


def test_schedules_are_counted_by_the_state_of_what_they_last_found(
    database: Database, schedules: EvalScheduleRepository, of: Eval
) -> None:
    first, second, paused = create(schedules, of), create(schedules, of), create(schedules, of)
    assert schedules.counts()["assistant", "steady"] == 3
    schedules.change(paused.id, tenant="acme", now=NOON, paused=True)
    due = {run.schedule: run for run in make(schedules, NOON)}
    end(database, due[first.id], "failed")
    taken = JobRepository(database).acquire(due[second.id].job, lease_s=60)
    assert taken is not None
    schedules.set_drift(second.id, "worse", job=taken[0].id, fence=taken[1])
    expected = {("assistant", "steady"): 0, ("assistant", "better"): 0, ("assistant", "worse"): 1}
    assert schedules.counts() == expected | {("assistant", "failed"): 1}
    make(schedules, NOON + HOUR)  # the next run of the failed one is under way, and tells nothing yet
    assert schedules.counts()["assistant", "failed"] == 1
