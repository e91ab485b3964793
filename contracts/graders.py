"""Graders: how an answer is scored in reinforcement fine-tuning. Scores lie between 0 and 1.

`string_check` and `text_similarity` are OpenAI's, with its templates: `{{ sample.output_text }}` is the model's answer,
`{{ item.NAME }}` a field of the row. The others are Flywheel's own, and score the answer itself.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(min_length=1, max_length=128)]
Template = Annotated[str, Field(min_length=1, max_length=10_000)]
SLOW_SCHEMA_KEYS = frozenset({"pattern", "patternProperties"})


class _Grader(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Name


class StringCheckGrader(_Grader):
    """1 or 0. `like` asks whether `reference` is in `input`, `ilike` the same without regard to case."""

    type: Literal["string_check"]
    input: Template
    reference: Template
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarityGrader(_Grader):
    """How much alike `input` and `reference` are: the edit distance of rapidfuzz, as OpenAI's `fuzzy_match`."""

    type: Literal["text_similarity"]
    input: Template
    reference: Template
    evaluation_metric: Literal["fuzzy_match"]


class LengthGrader(_Grader):
    """1 for an answer of `minimum` to `maximum` words, and less the further it is from there."""

    type: Literal["length"]
    minimum: Annotated[int, Field(ge=0)] = 0
    maximum: Annotated[int, Field(ge=1, le=100_000)]

    @field_validator("maximum")
    @classmethod
    def _is_not_below_minimum(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("minimum", 0):
            raise PydanticCustomError("below_minimum", "it is below `minimum`")
        return value


class RegexGrader(_Grader):
    """1 if `pattern` is found in the answer (flags can stand in the pattern: `(?i)`), else 0."""

    type: Literal["regex"]
    pattern: Annotated[str, Field(min_length=1, max_length=1000)]


class JsonSchemaGrader(_Grader):
    """1 for an answer that is JSON as `schema` wants it, 0.5 for other JSON, else 0.

    Regular expressions in schemas are refused: there is no bound on the time that they take.
    """

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")

    @field_validator("json_schema")
    @classmethod
    def _takes_bounded_time(cls, value: dict[str, Any]) -> dict[str, Any]:
        if found := keys_of(value) & SLOW_SCHEMA_KEYS:
            message = "`{key}` is not supported in a grader's schema; use a grader of type `regex`"
            raise PydanticCustomError("slow_schema", message, {"key": min(found)})
        return value


class RewardModelGrader(_Grader):
    """How likely a classification model of yours thinks `label` for the answer."""

    type: Literal["reward_model"]
    model: str
    label: str


Grader = Annotated[
    StringCheckGrader | TextSimilarityGrader | LengthGrader | RegexGrader | JsonSchemaGrader | RewardModelGrader,
    Field(discriminator="type"),
]


def keys_of(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        return set(schema).union(*map(keys_of, schema.values()))
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    return set()
