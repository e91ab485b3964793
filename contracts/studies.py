"""Studies of efficiency: variants of a model, measured by really serving each, and which of them to take."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.models import ModelCard
from contracts.serving import ServingOptions, Speculation

STUDY_FAMILY = "compress.study"
VARIANT_FIELD, REPORT_FIELD = "variant", "report"
"""In the data of a job's metrics events: a variant's result when it is there, and the whole at the end."""
BASELINE = "baseline"
REPORT_FOLDER = "report"
"""Below the job's artifacts; its files are these."""
REPORT_FILES = {
    "json": ("report.json", "application/json"),
    "html": ("report.html", "text/html; charset=utf-8"),
    "svg": ("pareto.svg", "image/svg+xml"),
    "png": ("pareto.png", "image/png"),
}
MOST_VARIANTS = 24
ACCEPTED_SHARE = 0.95
"""Of the baseline's score: what a variant must reach where no `min_score` is asked for."""

VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Share = Annotated[float, Field(gt=0, lt=1)]
Steps = Annotated[int, Field(ge=0, le=100_000)]
Target = Literal["latency", "memory", "quality"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# -- what is made


class _Variant(_Part):
    name: VariantName
    of: VariantName | None = Field(
        None, description="An earlier variant whose weights it starts from; the model's if unset."
    )


class Served(_Variant):
    """The same weights, served otherwise. `draft` is an earlier variant that guesses, for the speculation `draft`."""

    technique: Literal["serve"]
    serving: ServingOptions
    draft: VariantName | None = None

    @model_validator(mode="after")
    def _a_draft_guesses(self) -> Self:
        speculation = self.serving.speculation
        if (speculation is not None and speculation.method == "draft") != (self.draft is not None):
            raise PydanticCustomError("draft", "`draft` belongs to `serving.speculation.method: draft`, and only there")
        return self


class Quantised(_Variant):
    """Fewer bits for weights: integers of 8 or 4 bits, or floats of 8; `w8a8` and `fp8` compute in them too."""

    technique: Literal["quantise"]
    scheme: Literal["w8a8", "w8a16", "w4a16", "fp8"]
    algorithm: Literal["rtn", "gptq", "awq"] = Field("rtn", description="`rtn` needs no data.")

    @model_validator(mode="after")
    def _algorithm_fits(self) -> Self:
        if self.scheme == "fp8" and self.algorithm != "rtn":
            raise PydanticCustomError("algorithm", "`fp8` is rounded by `rtn` only")
        return self


class WeightsPruned(_Variant):
    """The smallest weights become 0. They are served as dense matrices: neither smaller nor faster, but a measure of
    what a sparse kernel would cost in quality."""

    technique: Literal["prune_weights"]
    pattern: Literal["unstructured", "2:4"] = "2:4"
    sparsity: Share = Field(0.5, description="Share of each matrix; 0.5 for 2:4.")

    @model_validator(mode="after")
    def _half_of_each_four(self) -> Self:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise PydanticCustomError("sparsity", "`2:4` is a sparsity of 0.5")
        return self


class LayersPruned(_Variant):
    """The layers that change their input least are left out, and the rest learns for `heal_steps` to do without."""

    technique: Literal["prune_layers"]
    share: Share = Field(0.2, description="Of the layers.")
    heal_steps: Steps = 60


class WidthPruned(_Variant):
    """The channels between a block's two linear layers that matter least are left out, and the rest learns."""

    technique: Literal["prune_width"]
    share: Share = Field(0.25, description="Of the channels of each block.")
    heal_steps: Steps = 60


class HeadsPruned(_Variant):
    """The attention heads that add least are left out, as many in each layer, and the rest learns. Of query heads that
    share keys and values each group loses as many; the KV cache shrinks only where each head has its own."""

    technique: Literal["prune_heads"]
    share: Share = Field(0.33, description="Of the heads of each layer, or of each group of query heads.")
    heal_steps: Steps = 60


class Distilled(_Variant):
    """A student with evenly spaced layers of the teacher learns from what the teacher says: by `logits` the teacher's
    whole distribution at each token (Hinton et al., 2015), by `sequence` only the tokens (Kim & Rush, 2016)."""

    technique: Literal["distil"]
    share: Share = Field(0.5, description="Of the teacher's layers that the student keeps.")
    by: Literal["logits", "sequence"] = "logits"
    steps: Annotated[int, Field(ge=1, le=100_000)] = 120


class WithAdapter(_Variant):
    """An adapter of the model, `merged` into its weights or loaded beside them as engines do."""

    technique: Literal["adapter"]
    adapter: str
    merged: bool


Variant = Annotated[
    Served | Quantised | WeightsPruned | LayersPruned | WidthPruned | HeadsPruned | Distilled | WithAdapter,
    Field(discriminator="technique"),
]


def default_variants() -> tuple[Variant, ...]:
    """For any Llama-like model. What a machine cannot serve is told as such."""
    whole = ServingOptions(adapters=False)
    return (
        Served(name="plain", technique="serve", serving=whole),
        Quantised(name="w8a8", technique="quantise", scheme="w8a8"),
        Quantised(name="w8a16", technique="quantise", scheme="w8a16"),
        Quantised(name="w4a16", technique="quantise", scheme="w4a16"),
        Quantised(name="fp8", technique="quantise", scheme="fp8"),
        Served(name="kv-fp8", technique="serve", serving=ServingOptions(adapters=False, kv_cache_dtype="fp8")),
        Served(
            name="ngram",
            technique="serve",
            serving=ServingOptions(adapters=False, speculation=Speculation(method="ngram")),
        ),
        WeightsPruned(name="sparse-2-4", technique="prune_weights"),
        LayersPruned(name="layers", technique="prune_layers"),
        WidthPruned(name="width", technique="prune_width"),
        HeadsPruned(name="heads", technique="prune_heads"),
        Distilled(name="student", technique="distil"),
        Served(
            name="student-draft",
            technique="serve",
            draft="student",
            serving=ServingOptions(adapters=False, speculation=Speculation(method="draft")),
        ),
        Quantised(name="layers-w8a8", technique="quantise", scheme="w8a8", of="layers"),
    )


# -- what it must show


class Constraints(_Part):
    """`max_ttft_ms` is for one stream. `min_score` is `ACCEPTED_SHARE` of the baseline's score if unset."""

    max_ttft_ms: Annotated[float, Field(gt=0)] | None = None
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    max_memory_gib: Annotated[float, Field(gt=0)] | None = None


class Measurement(_Part):
    """How variants are measured. `streams` are requests at a time, each measured in so many `rounds`."""

    streams: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1, max_length=6)] = (1, 8, 32)
    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    answer_tokens: Annotated[int, Field(ge=8, le=2048)] = Field(48, description="Length of a timed answer.")
    longest_answer_tokens: Annotated[int, Field(ge=8, le=2048)] = Field(128, description="Of an answer that is scored.")
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95

    @field_validator("streams")
    @classmethod
    def _one_stream_is_measured(cls, streams: tuple[int, ...]) -> tuple[int, ...]:
        if streams[0] != 1 or sorted(set(streams)) != list(streams):
            raise PydanticCustomError("streams", "they must grow, and begin with 1")
        return streams


class Sampling(_Part):
    """What the model says to itself, for techniques that learn or calibrate, where no `training_file` is given."""

    sequences: Annotated[int, Field(ge=8, le=100_000)] = 192
    tokens: Annotated[int, Field(ge=32, le=4096)] = 128


class StudyPlan(_Part):
    """What a person asks for."""

    model: str
    conversations_file: str = Field(description="Held-out conversations, whose last answers are the references.")
    text_file: str | None = Field(None, description="Held-out text for perplexity; the conversations' if unset.")
    training_file: str | None = Field(
        None, description="Text or conversations to calibrate with and learn from; the model's own words if unset."
    )
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=MOST_VARIANTS)] = default_variants()
    target: Target = "latency"
    constraints: Constraints = Constraints()
    measurement: Measurement = Measurement()
    sampling: Sampling = Sampling()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    max_minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Minutes after which no further variant is begun; the study then ends with those it has."
    )

    @field_validator("variants")
    @classmethod
    def _variants_build_on_earlier_ones(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        known = {BASELINE}
        for variant in variants:
            if variant.name in known:
                raise PydanticCustomError("repeated_name", "two have the name `{name}`", {"name": variant.name})
            for needed in needs_of(variant):
                if needed not in known:
                    message = "`{name}` builds on `{needed}`, which is not before it"
                    raise PydanticCustomError("unknown_variant", message, {"name": variant.name, "needed": needed})
            known.add(variant.name)
        return variants


def needs_of(variant: Variant) -> tuple[str, ...]:
    """The variants that it is made from."""
    return tuple(name for name in (variant.of, getattr(variant, "draft", None)) if name is not None)


class StudySpec(StudyPlan):
    """What a worker is asked to do: the plan, and the files' digests by their fields."""

    file_digests: Mapping[str, str]


# -- what came of it


class Spread(BaseModel):
    """Of repeated rounds: the middle one, the lowest and the highest."""

    model_config = ConfigDict(frozen=True)

    median: float
    low: float
    high: float


class Interval(BaseModel):
    """An estimate with its confidence interval."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float
    rows: int


class LoadFigures(BaseModel):
    """At so many `streams` at once. `joules_per_token` is an estimate; None where there is nothing to estimate from."""

    model_config = ConfigDict(frozen=True)

    streams: int
    ttft_ms: Spread
    tokens_per_second: Spread
    joules_per_token: float | None


class Figures(BaseModel):
    """`score_difference` is to the baseline, on the same rows; the baseline has none."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    start_s: float = Field(description="From the start of the engine's process to its first healthy word.")
    peak_memory_bytes: int
    loads: tuple[LoadFigures, ...]
    perplexity: Interval
    score: Interval
    score_difference: Interval | None
    energy_method: str

    def at(self, streams: int) -> LoadFigures:
        return next(load for load in self.loads if load.streams == streams)


VariantStatus = Literal["measured", "failed", "not_served", "not_begun"]


class VariantResult(BaseModel):
    """`not_served`: it was made, and no engine here serves it. `not_begun`: the study's time was over.

    `card` is of those whose weights are kept: it is in the registry for the recommended one, and can be put there for
    the others.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    technique: str
    details: dict[str, Any] = Field(description="The technique's options.")
    status: VariantStatus
    reason: str | None = None
    figures: Figures | None = None
    facts: dict[str, float] = Field(default_factory=dict, description="What the technique tells of its own.")
    made_s: float = 0.0
    measured_s: float = 0.0
    on_frontier: bool = False
    card: ModelCard | None = None


class Check(BaseModel):
    """A constraint on a variant. `surely` is whether the whole interval keeps it; None where there is no interval."""

    model_config = ConfigDict(frozen=True)

    name: Literal["max_ttft_ms", "min_score", "max_memory_gib"]
    bound: float
    value: float
    met: bool
    surely: bool | None = None


class Recommendation(BaseModel):
    """`variant` is None where none keeps the constraints."""

    model_config = ConfigDict(frozen=True)

    variant: str | None
    reason: str
    checks: tuple[Check, ...] = ()


class StudyReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    model: str
    target: Target
    constraints: Constraints
    measurement: Measurement
    machine: str
    variants: tuple[VariantResult, ...]
    frontier: tuple[str, ...] = Field(description="No other variant is both better and faster than one of these.")
    recommendation: Recommendation
    artifact: str = Field(description="The folder of the study's files in the artifact store.")
    seconds: float

    def variant(self, name: str) -> VariantResult | None:
        return next((variant for variant in self.variants if variant.name == name), None)
