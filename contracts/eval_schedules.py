"""Scheduled evaluations: runs of an eval that come again by themselves, and when their scores count as drifted."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.evals import Direction, SampledSource

FIRST, LAST = "first", "last"
SkipReason = Literal["run_under_way"]
ScheduleState = Literal["steady", "better", "worse", "failed"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(_Part):
    """`cron` has five fields, in UTC: minute, hour, day of the month, month, day of the week."""

    cron: Annotated[str, Field(max_length=128)] | None = None
    every_s: Annotated[int, Field(ge=60, le=31_536_000)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.cron is None) == (self.every_s is None):
            raise PydanticCustomError("one_timing", "give either `cron` or `every_s`")
        return self


class AlertRule(_Part):
    """A criterion has drifted where chance explains the difference of mean scores with less than `p_value`, which all
    criteria of a run share, and it is `difference` or more.
    """

    p_value: Annotated[float, Field(gt=0, lt=1)] = 0.01
    difference: Annotated[float, Field(ge=0)] = 0.0


class NewSchedule(_Part):
    """`baseline` is `first`, `last`, or a run's id. `criteria` names those that are watched, None for all."""

    name: str
    timing: Timing
    data_source: SampledSource
    baseline: str
    criteria: tuple[str, ...] | None
    alert: AlertRule


class EvalSchedule(NewSchedule):
    """`watched_since`: runs before it are no baseline and no history, since something else was watched then.

    `next_run_at` is passed over while `paused`. `skipped_at` is when a run was last left out, and `skip_reason` why.
    """

    id: str
    eval: str
    tenant: str
    creator: str = Field(description="The API key whose models and limits the runs have.")
    paused: bool
    next_run_at: int
    last_run: str | None
    skipped_at: int | None
    skip_reason: SkipReason | None
    drift: Direction | None = Field(description="Of the last run that was compared; None before it.")
    watched_since: int
    created_at: int
    updated_at: int


class DueRun(BaseModel):
    """A run that a schedule has made, whose job waits for a message."""

    model_config = ConfigDict(frozen=True)

    schedule: str
    run: str
    job: str
    queue: str
