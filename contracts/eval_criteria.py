"""Testing criteria of evaluations: how an answer is scored, and when it passes. Scores lie between 0 and 1, but for a
`score_model` with a `range` of its own.

`string_check`, `text_similarity`, `label_model` and `score_model` are OpenAI's. `regex`, `json_schema` and `length` are
the graders of reinforcement fine-tuning. `rubric` and `comparison` ask a model, as `label_model` and `score_model` do.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.eval_items import named_in
from contracts.graders import JsonSchemaGrader, LengthGrader, Name, RegexGrader, StringCheckGrader, Template

Share = Annotated[float, Field(ge=0, le=1)]
Metric = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "chrf",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
    "cosine",
    "bert_score",
]
"""How alike two texts are.

fuzzy_match    edit distance (rapidfuzz)
bleu           words of n = 1…4 in common, of one sentence, smoothed (Papineni et al., 2002; sacrebleu)
gleu           the lower of their precision and recall (Wu et al., 2016)
chrf           letters of n = 1…6 in common (Popović, 2015)
meteor         words in common, their stems and their order, without synonyms (Banerjee and Lavie, 2005)
rouge_1…5, l   words of n in common; the longest common sequence of words (Lin, 2004)
cosine         of the embeddings of both texts
bert_score     each token beside the most similar one of the other text (Zhang et al., 2020)
"""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Part):
    type: Literal["input_text", "output_text", "text"]
    text: Template


class Message(_Part):
    """Texts only. Several parts are one text."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Template | TextPart | Annotated[list[Template | TextPart], Field(min_length=1)]
    type: Literal["message"] = "message"

    @property
    def text(self) -> str:
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join(part if isinstance(part, str) else part.text for part in parts)


Messages = Annotated[tuple[Message, ...], Field(min_length=1, max_length=64)]


class TextSimilarityCriterion(_Part):
    type: Literal["text_similarity"]
    name: Name
    input: Template
    reference: Template
    evaluation_metric: Metric
    pass_threshold: Share
    model: str | None = Field(
        None, description="Embedding model of `cosine` and `bert_score`; the default one if unset."
    )

    @model_validator(mode="after")
    def _model_is_of_use(self) -> Self:
        if self.model is not None and self.evaluation_metric not in ("cosine", "bert_score"):
            raise PydanticCustomError("without_meaning", "only `cosine` and `bert_score` ask a `model`")
        return self


class JudgeSampling(_Part):
    max_completions_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None


class LabelModelCriterion(_Part):
    """A model chooses a label. With `position_swap` it is asked twice, with the labels in either order: an answer
    passes if both labels pass, and how often they were the same is told.
    """

    type: Literal["label_model"]
    name: Name
    model: str
    input: Messages
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(min_length=2, max_length=64)
    ]
    passing_labels: Annotated[tuple[str, ...], Field(min_length=1)]
    position_swap: bool = True
    reference: Template | None = Field(None, description="The label that people gave, to tell how the model agrees.")

    @model_validator(mode="after")
    def _labels_are_known(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise PydanticCustomError("repeated_label", "`labels` must differ")
        if strange := next((label for label in self.passing_labels if label not in self.labels), None):
            raise PydanticCustomError(
                "unknown_label", "`passing_labels` names `{label}`, which is not one of `labels`", {"label": strange}
            )
        return self


class ScoreModelCriterion(_Part):
    """A model gives a number in `range`."""

    type: Literal["score_model"]
    name: Name
    model: str
    input: Messages
    range: tuple[float, float] = (0.0, 1.0)
    pass_threshold: float | None = Field(None, description="The middle of `range` if unset.")
    sampling_params: JudgeSampling = JudgeSampling()

    @model_validator(mode="after")
    def _range_has_length(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise PydanticCustomError("empty_range", "the first number of `range` must be below the second")
        return self

    @property
    def passes_from(self) -> float:
        return sum(self.range) / 2 if self.pass_threshold is None else self.pass_threshold


class RubricPoint(_Part):
    name: Name
    question: Template
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class RubricCriterion(_Part):
    """A model says yes or no to each question about the answer; the score is the weight of those with yes."""

    type: Literal["rubric"]
    name: Name
    model: str
    input: Messages
    points: Annotated[tuple[RubricPoint, ...], Field(min_length=1, max_length=32)]
    pass_threshold: Share = 0.5


class ComparisonCriterion(_Part):
    """A model says which of two answers is better, asked twice with either one first: 1 where `input` wins both times,
    0 where `reference` does, 0.5 where the verdict depends on their order.
    """

    type: Literal["comparison"]
    name: Name
    model: str
    question: Template
    input: Template
    reference: Template
    pass_threshold: Share = 0.5


Criterion = Annotated[
    StringCheckGrader
    | TextSimilarityCriterion
    | LabelModelCriterion
    | ScoreModelCriterion
    | RubricCriterion
    | ComparisonCriterion
    | RegexGrader
    | JsonSchemaGrader
    | LengthGrader,
    Field(discriminator="type"),
]
Judged = LabelModelCriterion | ScoreModelCriterion | RubricCriterion | ComparisonCriterion


def templates_of(part: Any) -> Iterator[str]:
    """Every text in a criterion that may name something of a row."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from templates_of(getattr(part, name))
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from templates_of(each)


def placeholders_of(part: Any) -> set[tuple[str, str]]:
    return {found for template in templates_of(part) for found in named_in(template)}
