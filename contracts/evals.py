"""Evaluations in OpenAI's shape: what is measured (an eval), and of which model on which rows (a run)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from contracts.eval_criteria import Criterion, Messages
from contracts.jobs import JobError, JobStatus

RUN_FAMILY = "evaluate.run"
EXTERNAL = "external/"
"""What the names of models begin with that others serve (FLYWHEEL_EVALUATION__ENDPOINTS)."""

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemStatus = Literal["pass", "fail", "error"]
Direction = Literal["none", "better", "worse"]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]

RUN_STATUSES: dict[JobStatus, RunStatus] = {
    "queued": "queued",
    "validating_files": "in_progress",
    "running": "in_progress",
    "paused": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "canceled",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# -- what is measured


class DataSourceConfig(_Part):
    """`item_schema` is the JSON schema of a row's `item`."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False


class Eval(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    name: str
    data_source_config: DataSourceConfig
    testing_criteria: tuple[Criterion, ...]
    metadata: Metadata
    created_at: int
    updated_at: int


# -- of which model, on which rows


class FileContentRow(_Part):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContentSource(_Part):
    type: Literal["file_content"]
    content: Annotated[tuple[FileContentRow, ...], Field(min_length=1, max_length=2000)]


class FileSource(_Part):
    type: Literal["file_id"]
    id: str


Source = Annotated[FileContentSource | FileSource, Field(discriminator="type")]


class TemplateMessages(_Part):
    type: Literal["template"]
    template: Messages


class ReferencedMessages(_Part):
    """`item.NAME` holds the messages."""

    type: Literal["item_reference"]
    item_reference: Annotated[str, Field(pattern=r"^item\.[A-Za-z0-9_.]+$", max_length=256)]


class TextFormat(_Part):
    """Of the Responses API: `{"format": {"type": "json_schema", "name", "schema"}}`."""

    format: dict[str, Any] | None = None


class SamplingParams(_Part):
    """Temperature 0 unless it is said: a second run then measures the same."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_completion_tokens: Annotated[int, Field(ge=1, le=131_072)] | None = None
    seed: int = 0
    response_format: dict[str, Any] | None = None
    text: TextFormat | None = None

    @property
    def chosen_format(self) -> dict[str, Any] | None:
        """As `/v1/chat/completions` takes it."""
        wanted = self.text.format if self.text is not None else None
        if wanted is None or wanted.get("type") != "json_schema":
            return self.response_format or wanted
        return {"type": "json_schema", "json_schema": {name: wanted[name] for name in wanted if name != "type"}}


class SampledSource(_Part):
    """A model answers each row. Both of OpenAI's types ask `/v1/chat/completions`."""

    type: Literal["completions", "responses"]
    source: Source
    model: str
    input_messages: TemplateMessages | ReferencedMessages = Field(discriminator="type")
    sampling_params: SamplingParams = SamplingParams()


class JsonlSource(_Part):
    """The rows bring their answers: `{"item": {…}, "sample": {"output_text": "…"}}`."""

    type: Literal["jsonl"]
    source: Source


DataSource = Annotated[SampledSource | JsonlSource, Field(discriminator="type")]


class EvalRunSpec(BaseModel):
    """What a worker is asked to do; the rest is in the rows of the eval and the run."""

    model_config = ConfigDict(frozen=True)

    run: str
    creator: str = Field(description="The API key whose models and limits the run has.")


# -- what came of it


class Interval(BaseModel):
    """A mean with its confidence interval."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float
    rows: int


class PairedDifference(BaseModel):
    """Of the same rows in an earlier run: this run minus that one.

    `p_value` is of a permutation of the signs, two-sided. `detectable` is the least true difference that so many rows
    would show with a power of 0.8.
    """

    model_config = ConfigDict(frozen=True)

    baseline: float
    difference: float
    low: float
    high: float
    p_value: float
    detectable: float
    rows: int


class Agreement(BaseModel):
    """How often two labels of one row are the same, and Cohen's kappa, which counts chance out; None where it is not
    defined, since only one label was given.
    """

    model_config = ConfigDict(frozen=True)

    share: float
    kappa: float | None
    rows: int


class CriterionStatistics(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    score: Interval
    pass_rate: Interval
    against_baseline: PairedDifference | None = None
    in_either_order: Agreement | None = None
    with_reference: Agreement | None = None
    confusion: dict[str, dict[str, int]] | None = Field(None, description="Reference → label → rows.")


class ControlChart(BaseModel):
    """An exponentially weighted moving average of a schedule's mean scores, and the limits between which it is in 997
    of 1000 runs while nothing changes. `runs` are those that the limits were learnt from.
    """

    model_config = ConfigDict(frozen=True)

    average: float
    centre: float
    low: float
    high: float
    p_value: float
    runs: int


class Drift(BaseModel):
    """What a scheduled run's scores by one criterion did, beside its baseline and beside the runs before it.

    `direction` is `none` unless a test of `seen_by` is surer than the schedule's alert asks. `chart` is None where too
    few runs came before.
    """

    model_config = ConfigDict(frozen=True)

    criterion: str
    direction: Direction
    seen_by: tuple[Literal["baseline", "history"], ...] = ()
    baseline: str | None
    against_baseline: PairedDifference | None
    chart: ControlChart | None


class Contamination(BaseModel):
    """Rows that are, or nearly are, in what the model or one of its parents learnt from."""

    model_config = ConfigDict(frozen=True)

    model: str
    job: str
    rows: tuple[int, ...]


class ModelUsage(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_name: str
    invocation_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


class CriterionCounts(BaseModel):
    model_config = ConfigDict(frozen=True)

    testing_criteria: str
    passed: int
    failed: int


class ResultCounts(BaseModel):
    model_config = ConfigDict(frozen=True)

    total: int = 0
    passed: int = 0
    failed: int = 0
    errored: int = 0


class RunResults(BaseModel):
    """What is known when a run has ended."""

    model_config = ConfigDict(frozen=True)

    per_model_usage: tuple[ModelUsage, ...] = ()
    per_testing_criteria_results: tuple[CriterionCounts, ...] = ()
    statistics: tuple[CriterionStatistics, ...] = ()
    contamination: tuple[Contamination, ...] = ()
    drift: tuple[Drift, ...] = Field((), description="Of the criteria that a schedule watches.")
    report: str | None = Field(None, description="The folder of the report in the artifact store.")


class EvalRun(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    eval: str
    tenant: str
    job: str
    name: str
    data_source: DataSource
    baseline: str | None
    schedule: str | None = Field(None, description="The schedule that made it; None for one that somebody asked for.")
    metadata: Metadata
    results: RunResults
    created_at: int

    @property
    def model(self) -> str | None:
        return self.data_source.model if isinstance(self.data_source, SampledSource) else None


class RunState(BaseModel):
    """What changes while a run goes on."""

    model_config = ConfigDict(frozen=True)

    status: RunStatus
    error: JobError | None
    counts: ResultCounts


class ItemResult(BaseModel):
    """Of one criterion. `sample` is what a judge said."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    score: float
    passed: bool
    sample: dict[str, Any] | None = None


class OutputItem(BaseModel):
    """A row of a run: what was asked, what was answered, and what each criterion thinks of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    run: str
    position: int = Field(description="From 0, in the order of the data.")
    status: ItemStatus
    item: dict[str, Any]
    sample: dict[str, Any]
    results: tuple[ItemResult, ...]
    created_at: int


def check_names(criteria: tuple[Any, ...]) -> None:
    """Results are told by their criterion's name. For validators: raises PydanticCustomError."""
    names = [criterion.name for criterion in criteria]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise PydanticCustomError("repeated_name", "two criteria have the name `{name}`", {"name": repeated})
