"""The guardrails of a key, as an operator writes them."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contracts.personal_data import KINDS, Kind

Stage = Literal["input", "output"]
Where = Literal["input", "output", "both"]
BlockedCategory = Literal["harassment", "hate", "sexual", "violence"]
BLOCKED_CATEGORIES: tuple[BlockedCategory, ...] = get_args(BlockedCategory)
"""Those that contracts.text_classifiers judges, which is not imported here: it needs numpy."""
Term = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PersonalDataRule(_Rule):
    """Personal data is replaced by `[EMAIL]`, `[PHONE]` and so on."""

    kinds: list[Kind] = Field(list(KINDS), min_length=1)
    where: Where = "both"


class Topic(_Rule):
    """What may not be spoken of."""

    name: TopicName = Field(description="Told to clients whose prompt is refused.")
    terms: list[Term] = Field([], max_length=2000, description="Whole words, in letters of either case.")
    patterns: list[Pattern] = Field([], max_length=100, description="Regular expressions in RE2's syntax.")
    where: Where = "both"

    @model_validator(mode="after")
    def _says_something(self) -> "Topic":
        if not self.terms and not self.patterns:
            raise ValueError("a topic needs `terms` or `patterns`")
        return self


class InjectionRule(_Rule):
    """Prompts that try to give the model other instructions, by a score from 0 to 1."""

    threshold: float = Field(0.5, gt=0, lt=1, description="From this score on a prompt counts as an injection.")
    action: Literal["refuse", "annotate"] = Field("refuse", description="`annotate` only says so in a header.")


class ModerationRule(_Rule):
    """What a local classifier takes for harmful: a prompt is refused, an answer is cut."""

    categories: list[BlockedCategory] = Field(list(BLOCKED_CATEGORIES), min_length=1)
    threshold: float = Field(0.5, gt=0, lt=1, description="From this score on a category holds.")
    where: Where = "both"


class GuardrailPolicy(_Rule):
    personal_data: PersonalDataRule | None = None
    topics: list[Topic] = Field([], max_length=50)
    injection: InjectionRule | None = None
    moderation: ModerationRule | None = None
    output_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema; every generated answer is a JSON object that follows it."
    )

    @model_validator(mode="after")
    def _guards_something(self) -> "GuardrailPolicy":
        if not (self.personal_data or self.topics or self.injection or self.moderation or self.output_schema):
            raise ValueError("a policy needs `personal_data`, `topics`, `injection`, `moderation` or `output_schema`")
        names = [topic.name for topic in self.topics]
        if len(set(names)) < len(names):
            raise ValueError("each topic needs a `name` of its own")
        return self

    def masks(self, stage: Stage) -> bool:
        return self.personal_data is not None and self.personal_data.where in (stage, "both")

    def moderates(self, stage: Stage) -> bool:
        return self.moderation is not None and self.moderation.where in (stage, "both")

    def topics_on(self, stage: Stage) -> list[Topic]:
        return [topic for topic in self.topics if topic.where in (stage, "both")]
