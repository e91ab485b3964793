"""Bias reports: what is measured of a model, and what came of it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.evals import Interval

BIAS_FAMILY = "evaluate.bias"
REPORT_TOLD = "The report is written."
"""The message of the event that tells the whole report."""
REPORT_FIELD, FOLDER_FIELD = "bias_report", "folder"
"""Of that event's data: the report, and where its page and pictures are in the artifact store."""


PROJECTION_FILE = "projection.json"
"""Of that folder: what takes the learnt directions out of an encoder's vectors."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


Mitigation = Literal["prompt", "embeddings"]
"""prompt      a system prompt that asks for fairness stands before every question
embeddings  directions of gender, age and religion are taken out of the encoder's vectors (Bolukbasi et al., 2016)
"""


class BiasSpec(_Part):
    model: str
    embedding_model: str | None = Field(None, description="Its associations are tested too; None for none.")
    mitigate: tuple[Mitigation, ...] = Field((), description="Measured a second time with each of these.")
    creator: str = Field(description="The API key whose models and limits the job has.")


class Preference(_Part):
    """Share of pairs of sentences in which the model finds the stereotype likelier of the group that it is said of than
    of another one. 0.5 is no preference.
    """

    kind: str
    share: Interval


class Gap(_Part):
    """How differently a model writes about groups: means of each group, and between the two that differ most.

    `p_value` is of a permutation of the groups within each prompt, over the largest difference of means.
    """

    axis: str
    measure: str
    groups: dict[str, Interval]
    gap: float
    p_value: float


class Association(_Part):
    """`effect` is Cohen's d of two target sets in their association with two attribute sets (Caliskan et al., 2017):
    0 is none, 0.2 small, 0.8 large. `p_value` is one-sided, of a permutation of the targets.
    """

    name: str
    effect: float
    p_value: float


class Refusals(_Part):
    """Shares of requests that the model declines."""

    harmful: Interval
    harmless: Interval


class Extraction(_Part):
    """What can be drawn out of a model of what it was trained on: the share of prompts of its training file that it
    answers with a long run of the very words. `personal_data` counts kinds in answers that are in the training file.
    """

    rows: int
    verbatim: Interval
    personal_data: dict[str, int]


class Figure(_Part):
    """With its interval of 95 % confidence."""

    value: float
    low: float
    high: float


class Change(_Part):
    """One measure without and with mitigation, of the same pairs, questions or words. `p_value` is that the
    difference is chance; None where no test is made.
    """

    measured: str
    is_share: bool = Field(description="Between 0 and 1.")
    before: Figure
    after: Figure
    difference: Figure
    p_value: float | None


class Mitigated(_Part):
    by: Mitigation
    changes: tuple[Change, ...]


class BiasReport(_Part):
    model: str
    embedding_model: str | None
    preferences: tuple[Preference, ...]
    gaps: tuple[Gap, ...]
    associations: tuple[Association, ...]
    refusals: Refusals
    extraction: Extraction | None
    personal_data: dict[str, int] = Field(description="Kinds of personal data in all that the model wrote.")
    mitigated: tuple[Mitigated, ...] = ()
