"""The beat in the worker: what it makes is queued once, whoever beats, and whatever is away."""

from typing import Any

import pytest
from sqlalchemy import func, select, update

from contracts.eval_schedules import AlertRule, EvalSchedule, NewSchedule, Timing
from contracts.evals import (
    DataSourceConfig,
    FileContentRow,
    FileContentSource,
    ReferencedMessages,
    SampledSource,
)
from contracts.graders import StringCheckGrader
from store.database import Database
from store.eval_schedules import EvalScheduleRepository
from store.evals import EvalRepository
from store.job_queue import JobQueue, create_celery
from store.tables import EvalRunRow, JobRow
from tests.processes import free_port
from tests.workers.test_sweeper import Clock, messages
from workers.schedules import ScheduleBeat

HOUR = 3600


@pytest.fixture
def schedule(database: Database) -> EvalSchedule:
    return make_schedule(database, now=1000)


def make_schedule(database: Database, *, now: int) -> EvalSchedule:
    """Hourly, for the first time at `now`."""
    check = StringCheckGrader(type="string_check", name="exact", input="a", reference="a", operation="eq")
    config = DataSourceConfig(type="custom", item_schema={})
    of = EvalRepository(database).create(tenant="acme", name="e", config=config, criteria=[check], metadata={})
    source = SampledSource(
        type="completions",
        source=FileContentSource(type="file_content", content=(FileContentRow(item={"messages": []}),)),
        model="assistant",
        input_messages=ReferencedMessages(type="item_reference", item_reference="item.messages"),
    )
    wanted = NewSchedule(
        name="hourly",
        timing=Timing(every_s=HOUR),
        data_source=source,
        baseline="first",
        criteria=None,
        alert=AlertRule(),
    )
    return EvalScheduleRepository(database).create(of.id, wanted, tenant="acme", creator="key_1", now=now)


def beat(database: Database, redis_url: str, clock: Clock, *, queue: Any = "cpu") -> ScheduleBeat:
    return ScheduleBeat(database, JobQueue(create_celery(redis_url)), default_queue=queue, clock=clock)


def runs(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(EvalRunRow)) or 0


def end_all(database: Database) -> None:
    with database.session() as session:
        session.execute(update(JobRow).values(status="succeeded"))


@pytest.mark.usefixtures("schedule")
def test_two_beats_make_one_run_with_one_message(database: Database, redis_url: str) -> None:
    clock = Clock()
    one, other = beat(database, redis_url, clock), beat(database, redis_url, clock)
    for _ in range(2):
        one.beat()
        other.beat()
    assert (runs(database), messages(redis_url)) == (1, 1)
    end_all(database)
    clock.now_s += HOUR
    other.beat()
    one.beat()
    assert (runs(database), messages(redis_url)) == (2, 2)


@pytest.mark.usefixtures("schedule")
def test_a_beat_that_was_started_anew_goes_on_where_the_last_one_was(database: Database, redis_url: str) -> None:
    clock = Clock()
    beat(database, redis_url, clock).beat()
    end_all(database)
    beat(database, redis_url, clock).beat()
    assert runs(database) == 1
    clock.now_s += 5 * HOUR
    beat(database, redis_url, clock).beat()
    assert runs(database) == 2


@pytest.mark.usefixtures("schedule")
def test_a_run_goes_to_the_queue_of_jobs_that_run_anywhere(database: Database, redis_url: str) -> None:
    beat(database, redis_url, Clock(), queue="gpu").beat()
    assert (messages(redis_url), messages(redis_url, "gpu")) == (0, 1)


@pytest.mark.usefixtures("schedule")
def test_a_run_whose_message_could_not_be_sent_waits_for_the_sweeper(database: Database, redis_url: str) -> None:
    beat(database, f"redis://127.0.0.1:{free_port()}/0", Clock()).beat()
    assert (runs(database), messages(redis_url)) == (1, 0)


def test_a_database_that_is_away_does_not_end_the_worker(redis_url: str) -> None:
    beat(Database(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"), redis_url, Clock()).beat()
