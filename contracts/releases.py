"""Releases: how a candidate takes the place of an alias's stable model, and what it must show on the way."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ReleaseState = Literal["built", "evaluated", "shadow", "canary", "promoted", "rolled_back"]
FINAL_STATES: frozenset[ReleaseState] = frozenset({"promoted", "rolled_back"})
LIVE_STATES: frozenset[ReleaseState] = frozenset({"shadow", "canary"})

FIRST_LOOK_AT = 20
"""Requests of the candidate in a stage before its figures are first judged."""

Arm = Literal["stable", "candidate"]
Verdict = Literal["pass", "fail", "unsure"]
GateName = Literal[
    "log_likelihood",
    "similarity",
    "error_rate",
    "error_rate_bound",
    "time_to_first_token",
    "tokens_per_second",
    "feedback",
]

AliasName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Margin = Annotated[float, Field(gt=0, le=1)]
"""A rate above 0: no number of requests would show that a difference is none at all."""
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# -- the policy


class MinDifference(Part):
    min_difference: float = Field(allow_inf_nan=False, description="Candidate minus stable must surely be above it.")


class EvaluationPolicy(Part):
    """Gates on a data set that neither model was trained on, before the candidate gets any traffic."""

    log_likelihood: MinDifference | None = Field(
        None, description="Mean log-likelihood of the data set's answers, in nats a token."
    )
    similarity: MinDifference | None = Field(
        None, description="Mean likeness (chrF, 0 to 1) of generated answers to the data set's."
    )
    timeout_s: Seconds = Field(3600, description="Seconds after which an evaluation that has not ended has failed.")

    @model_validator(mode="after")
    def _check_that_something_is_judged(self) -> Self:
        if self.log_likelihood is None and self.similarity is None:
            raise ValueError("an evaluation needs log_likelihood, similarity or both")
        return self


class ErrorRateGate(Part):
    max_increase: Margin = Field(0.02, description="Candidate's error rate minus stable's must surely be below it.")
    max_rate: Margin | None = Field(None, description="The candidate's error rate itself must surely be below it.")


class MaxRatio(Part):
    max_ratio: float = Field(gt=0, allow_inf_nan=False, description="Candidate's median by stable's must be below it.")


class MinRatio(Part):
    min_ratio: float = Field(gt=0, allow_inf_nan=False, description="Candidate's median by stable's must be above it.")


class FeedbackGate(Part):
    """A veto: too little feedback holds nothing up unless it is required."""

    max_decrease: Margin = Field(0.1, description="Stable's share of good ratings minus candidate's must be below it.")
    required: bool = Field(False, description="Wait until there is enough feedback to tell.")


class LiveGates(Part):
    """Gates on live traffic, of the candidate beside the stable model in the same time."""

    error_rate: ErrorRateGate = ErrorRateGate()
    time_to_first_token: MaxRatio | None = None
    tokens_per_second: MinRatio | None = None
    feedback: FeedbackGate | None = None


class Stage(Part):
    share: float = Field(gt=0, le=1, description="Canary: share of the users. Shadow: share of requests copied.")
    min_requests: int = Field(200, ge=1, description="Requests that the candidate must have answered.")
    min_duration_s: Seconds = Field(600, description="Shortest time that the stage lasts.")
    timeout_s: Seconds = Field(86_400, description="Seconds after which a candidate that has not passed has failed.")


class Policy(Part):
    """What a candidate must show. `docs/releases.md` explains it; `examples/release-policy.yaml` is one."""

    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of every interval; of a stage's looks together.")
    evaluation: EvaluationPolicy | None = None
    shadow: Stage | None = None
    canary: tuple[Stage, ...] = (Stage(share=0.01), Stage(share=0.1), Stage(share=0.5))
    live: LiveGates = LiveGates()
    readiness_timeout_s: Seconds = Field(600, description="Seconds that engines may take to serve the candidate.")

    @model_validator(mode="after")
    def _check_canary(self) -> Self:
        shares = [stage.share for stage in self.canary]
        if not shares or shares != sorted(set(shares)):
            raise ValueError("canary needs stages, each with a larger share than the one before")
        return self


# -- evidence


class ArmFigures(BaseModel):
    """What was counted of one arm in one stage. Histograms are by `bucket_of`, so that any processes' add up."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    errors: int = 0
    time_to_first_token: dict[int, int] = {}
    tokens_per_second: dict[int, int] = {}


BUCKET_WIDTH = math.log(1.05)
"""Each bucket's end is 5 % above its beginning."""


def bucket_of(value: float) -> int:
    return math.floor(math.log(max(value, 1e-9)) / BUCKET_WIDTH)


def bucket_bounds(bucket: int) -> tuple[float, float]:
    return math.exp(bucket * BUCKET_WIDTH), math.exp((bucket + 1) * BUCKET_WIDTH)


class PairedScore(BaseModel):
    """One metric of an evaluation, row by row of the same data set."""

    model_config = ConfigDict(frozen=True)

    stable: float
    candidate: float
    difference: float
    low: float = Field(description="Lower end of the difference's interval.")
    high: float
    rows: int


class Evaluation(BaseModel):
    """What an evaluation found out. An interval is a bootstrap over rows."""

    model_config = ConfigDict(frozen=True)

    confidence: float
    log_likelihood: PairedScore
    similarity: PairedScore


class GateResult(BaseModel):
    """One gate at one look: the interval, the threshold, and what follows from the two."""

    model_config = ConfigDict(frozen=True)

    gate: GateName
    verdict: Verdict
    required: bool = True
    rule: str = Field(description="For people: what must hold.")
    stable: float | None
    candidate: float | None
    stable_samples: int
    candidate_samples: int
    estimate: float | None = Field(description="Difference or ratio, candidate against stable.")
    low: float | None = Field(description="Lower end of its interval; None where nothing bounds it.")
    high: float | None
    threshold: float
    confidence: float = Field(description="Of this interval by itself.")


class Evidence(BaseModel):
    """What a move was decided on."""

    model_config = ConfigDict(frozen=True)

    look: int = Field(0, description="How often the stage's figures had been judged before.")
    gates: tuple[GateResult, ...] = ()
    stable: ArmFigures | None = None
    candidate: ArmFigures | None = None
    evaluation: Evaluation | None = None

    @property
    def failed(self) -> tuple[GateResult, ...]:
        return tuple(gate for gate in self.gates if gate.verdict == "fail")

    @property
    def passed(self) -> bool:
        return all(gate.verdict == "pass" or (gate.verdict == "unsure" and not gate.required) for gate in self.gates)


# -- aliases and releases


class Alias(BaseModel):
    """A name that stands for a model, and in a release for its candidate too."""

    model_config = ConfigDict(frozen=True)

    name: str
    tenant: str | None = Field(description="Owner; None where every tenant may use it.")
    model: str = Field(description="The stable model.")
    release: str | None = Field(None, description="The release that is under way.")
    created_at: int


class Release(BaseModel):
    """How a candidate stands. `version` grows with every write, which names the version that it changes."""

    model_config = ConfigDict(frozen=True)

    id: str
    alias: str
    owner: str | None = Field(description="The alias's tenant; None where every tenant may use it.")
    tenant: str = Field(description="Tenant of the key that started it.")
    stable: str
    candidate: str
    policy: Policy
    evaluation_file: str | None = None
    evaluation_digest: str | None = Field(None, description="`sha256:…` of that file.")
    evaluation_job: str | None = None
    state: ReleaseState = "built"
    stage: int = Field(0, description="Which of the canary's stages it is in, from 0.")
    version: int = 0
    looks: int = Field(0, description="How often this stage's figures were judged.")
    next_look_at: int = Field(0, description="Requests of the candidate at which they are judged again.")
    evidence: Evidence | None = Field(None, description="The last look in this stage.")
    created_at: int
    entered_at: float = Field(description="Unix seconds at which this state or stage began.")
    finished_at: int | None = None

    @property
    def current_stage(self) -> Stage | None:
        """What the policy says of the stage that the release is in, where that gets traffic."""
        if self.state == "shadow":
            return self.policy.shadow
        return self.policy.canary[self.stage] if self.state == "canary" else None

    @property
    def stage_name(self) -> str:
        """`canary-1` is the second stage of the canary."""
        return f"canary-{self.stage}" if self.state == "canary" else self.state


class Move(BaseModel):
    """Where a release goes, and why."""

    model_config = ConfigDict(frozen=True)

    state: ReleaseState
    stage: int = 0
    reason: str
    evidence: Evidence | None = None


class RecordedMove(Move):
    """A move that was made. `version` is the release's after it."""

    version: int
    from_state: ReleaseState | None
    from_stage: int = 0
    actor: str = Field(description="`controller`, or the key of the person who asked for it.")
    created_at: int


EVALUATION_FAMILY = "evaluate.release"
EVALUATION_FIELD = "evaluation"
"""In the data of the event with which such a job tells its `Evaluation`."""


class EvaluationSpec(BaseModel):
    """Everything that a worker needs to run an `evaluate.release` job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stable: str
    candidate: str
    file: str
    file_digest: str
    confidence: float
