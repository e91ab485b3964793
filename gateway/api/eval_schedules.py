"""/v1/flywheel/eval_schedules: runs of an eval that come again by themselves, and are compared with those before."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import InvalidValue, NotFound
from contracts.eval_schedules import FIRST, LAST, AlertRule, EvalSchedule, NewSchedule, SkipReason, Timing
from contracts.evals import Direction, Eval, SampledSource
from contracts.keys import ApiKey
from gateway.api.access import JobsKey
from gateway.api.eval_runs import EvalRunService
from gateway.api.evals import EvalService, Name
from gateway.api.paging import After, Limit, Page
from store.eval_schedules import EvalScheduleRepository

router = APIRouter(prefix="/v1/flywheel/eval_schedules", tags=["Evaluation"])
Baseline = Annotated[
    str,
    Field(max_length=64, description="`first` or `last`, of the schedule's own runs that ended well, or a run's id."),
]


class CreateSchedule(BaseModel):
    """`criteria` are the names of the eval's criteria that are watched; all of them if left out."""

    model_config = ConfigDict(extra="forbid")

    eval_id: str
    data_source: SampledSource
    timing: Timing
    name: Name | None = None
    baseline: Baseline = FIRST
    criteria: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    alert: AlertRule = AlertRule()


class ChangeSchedule(BaseModel):
    """What is left out stays. Another `baseline` begins the history anew."""

    model_config = ConfigDict(extra="forbid")

    timing: Timing | None = None
    name: Name | None = None
    baseline: Baseline | None = None
    alert: AlertRule | None = None


class ScheduleObject(BaseModel):
    """`drift` is what the last comparison found. `next_run_at` is null while it is paused."""

    id: str
    object: Literal["eval_schedule"] = "eval_schedule"
    eval_id: str
    name: str
    model: str
    timing: Timing
    data_source: SampledSource
    baseline: str
    criteria: tuple[str, ...] | None
    alert: AlertRule
    paused: bool
    next_run_at: int | None
    last_run: str | None
    skipped_at: int | None
    skip_reason: SkipReason | None
    drift: Direction | None
    watched_since: int
    created_at: int

    @classmethod
    def of(cls, found: EvalSchedule) -> "ScheduleObject":
        told = {name: getattr(found, name) for name in cls.model_fields if name in EvalSchedule.model_fields}
        return cls(
            **told
            | {
                "eval_id": found.eval,
                "model": found.data_source.model,
                "next_run_at": None if found.paused else found.next_run_at,
            }
        )


class ScheduleDeleted(BaseModel):
    id: str
    object: Literal["eval_schedule.deleted"] = "eval_schedule.deleted"
    deleted: bool = True


class EvalScheduleService:
    """A tenant's schedules. Synchronous; the routes call it in threads."""

    def __init__(self, schedules: EvalScheduleRepository, evals: EvalService, runs: EvalRunService) -> None:
        self._schedules, self._evals, self._runs = schedules, evals, runs

    def create(self, wanted: CreateSchedule, key: ApiKey) -> EvalSchedule:
        """Raises NotFound, ModelNotFound, InvalidValue, InvalidTrainingFile."""
        of = self._evals.require(wanted.eval_id, key)
        self._runs.check_source(wanted.data_source, of, key)
        self._runs.check_baseline(of.id, wanted.baseline if wanted.baseline not in (FIRST, LAST) else None, key)
        _check_criteria(wanted.criteria, of)
        new = NewSchedule(
            name=wanted.name or of.name,
            **{name: getattr(wanted, name) for name in NewSchedule.model_fields if name != "name"},
        )
        with _timing_checked():
            return self._schedules.create(of.id, new, tenant=key.tenant, creator=key.id, now=int(time.time()))

    def page(self, key: ApiKey, *, after: str | None, limit: int) -> list[EvalSchedule]:
        return self._schedules.page(tenant=key.tenant, after=after, limit=limit)

    def retrieve(self, schedule_id: str, key: ApiKey) -> EvalSchedule:
        return _found(self._schedules.get(schedule_id, tenant=key.tenant), schedule_id)

    def change(self, schedule_id: str, wanted: ChangeSchedule, key: ApiKey) -> EvalSchedule:
        """Raises NotFound, InvalidValue."""
        found = self.retrieve(schedule_id, key)
        if wanted.baseline not in (FIRST, LAST):
            self._runs.check_baseline(found.eval, wanted.baseline, key)
        told = {name: getattr(wanted, name) for name in ChangeSchedule.model_fields}
        with _timing_checked():
            changed = self._schedules.change(schedule_id, tenant=key.tenant, now=int(time.time()), **told)
        return _found(changed, schedule_id)

    def set_paused(self, schedule_id: str, key: ApiKey, *, paused: bool) -> EvalSchedule:
        """Raises NotFound."""
        changed = self._schedules.change(schedule_id, tenant=key.tenant, now=int(time.time()), paused=paused)
        return _found(changed, schedule_id)

    def delete(self, schedule_id: str, key: ApiKey) -> None:
        """Raises NotFound."""
        if not self._schedules.delete(schedule_id, tenant=key.tenant):
            _found(None, schedule_id)


def _check_criteria(names: tuple[str, ...] | None, of: Eval) -> None:
    known = {criterion.name for criterion in of.testing_criteria}
    if unknown := next((name for name in names or () if name not in known), None):
        raise InvalidValue(f"The eval has no criterion `{unknown}`.", param="criteria")


@contextmanager
def _timing_checked() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        message = f"`cron` is not five fields that name a time: {error}"
        raise InvalidValue(message, param="timing.cron") from None


def _found(schedule: EvalSchedule | None, schedule_id: str) -> EvalSchedule:
    if schedule is None:
        raise NotFound(f"No such schedule: `{schedule_id}`.", param="schedule_id")
    return schedule


def _service(request: Request) -> EvalScheduleService:
    service: EvalScheduleService = request.app.state.eval_schedule_service
    return service


Service = Annotated[EvalScheduleService, Depends(_service)]


@router.post("", summary="Run an eval again and again, and watch its scores.", status_code=201)
async def create_schedule(wanted: CreateSchedule, key: JobsKey, service: Service) -> ScheduleObject:
    return ScheduleObject.of(await asyncio.to_thread(service.create, wanted, key))


@router.get("", summary="List schedules, newest first.")
async def list_schedules(
    key: JobsKey, service: Service, after: After = None, limit: Limit = 20
) -> Page[ScheduleObject]:
    found = await asyncio.to_thread(service.page, key, after=after, limit=limit + 1)
    return Page.of([ScheduleObject.of(each) for each in found], limit)


@router.get("/{schedule_id}", summary="Retrieve a schedule.")
async def retrieve_schedule(schedule_id: str, key: JobsKey, service: Service) -> ScheduleObject:
    return ScheduleObject.of(await asyncio.to_thread(service.retrieve, schedule_id, key))


@router.post("/{schedule_id}", summary="Change a schedule.")
async def change_schedule(schedule_id: str, wanted: ChangeSchedule, key: JobsKey, service: Service) -> ScheduleObject:
    return ScheduleObject.of(await asyncio.to_thread(service.change, schedule_id, wanted, key))


@router.post("/{schedule_id}/pause", summary="Pause a schedule; a run that is under way goes on.")
async def pause_schedule(schedule_id: str, key: JobsKey, service: Service) -> ScheduleObject:
    return ScheduleObject.of(await asyncio.to_thread(service.set_paused, schedule_id, key, paused=True))


@router.post("/{schedule_id}/resume", summary="Resume a paused schedule.")
async def resume_schedule(schedule_id: str, key: JobsKey, service: Service) -> ScheduleObject:
    return ScheduleObject.of(await asyncio.to_thread(service.set_paused, schedule_id, key, paused=False))


@router.delete("/{schedule_id}", summary="Delete a schedule; its runs stay.")
async def delete_schedule(schedule_id: str, key: JobsKey, service: Service) -> ScheduleDeleted:
    await asyncio.to_thread(service.delete, schedule_id, key)
    return ScheduleDeleted(id=schedule_id)
