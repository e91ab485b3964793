"""Fine-tuning: the methods, what can be chosen in each, and what a worker is asked to do.

A method is named as OpenAI names it (`supervised`, `dpo`, `reinforcement`); the others are Flywheel's own. A choice
that means nothing beside another one (`lora_rank` with `adaptation: full`) is refused by its name.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from contracts.datasets import RowKind
from contracts.engine import EngineTask
from contracts.graders import Grader

MethodName = Literal[
    "supervised",
    "dpo",
    "reinforcement",
    "pretraining",
    "masked_language_modelling",
    "classification",
    "token_classification",
]
Auto = Literal["auto"]

Adaptation = Literal["lora", "rslora", "dora", "qlora", "ia3", "prompt", "prefix", "full"]
"""How weights change.

lora      low-rank matrices beside every linear layer (Hu et al., 2021); an adapter, which engines load beside the base
rslora    the same, scaled so that high ranks learn as well (Kalajdzievski, 2023); an adapter
qlora     the same over a base in 4 bits (Dettmers et al., 2023); an adapter; needs a GPU
dora      low-rank directions and learnt magnitudes (Liu et al., 2024); merged into whole weights
ia3       learnt factors of keys, values and inner activations (Liu et al., 2022); merged into whole weights
prompt    learnt vectors before the prompt (Lester et al., 2021); whole weights with these as added tokens
prefix    learnt keys and values in every layer (Li and Liang, 2021); no engine serves it
full      every weight
"""
LowRankOrFull = Literal["lora", "rslora", "dora", "qlora", "full"]
LOW_RANK: frozenset[str] = frozenset({"lora", "rslora", "dora", "qlora"})
SERVED_AS_ADAPTER: frozenset[str] = frozenset({"lora", "rslora", "qlora"})
WITH_VIRTUAL_TOKENS: frozenset[str] = frozenset({"prompt", "prefix"})

BlockTokens = Annotated[int, Field(ge=16, le=32768)]


class Hyperparameters(BaseModel):
    """OpenAI's three, which every method knows. "auto" takes the default for the method and the size of the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = Field("auto", description="Rows in a step.")
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"


class AdaptingHyperparameters(Hyperparameters):
    adaptation: LowRankOrFull | Auto = Field("auto", description="How weights change; auto is lora.")
    lora_rank: Annotated[int, Field(ge=1, le=64)] | Auto = Field("auto", description="Of the low-rank adaptations.")

    @property
    def chosen_adaptation(self) -> Adaptation:
        return "lora" if self.adaptation == "auto" else self.adaptation

    @field_validator("lora_rank")
    @classmethod
    def _rank_is_of_low_rank(cls, value: int | Auto, info: ValidationInfo) -> int | Auto:
        if value != "auto" and info.data.get("adaptation") not in (*LOW_RANK, "auto", None):
            raise _without_meaning("only the low-rank adaptations have a rank")
        return value


class SupervisedHyperparameters(AdaptingHyperparameters):
    adaptation: Adaptation | Auto = Field("auto", description="How weights change; auto is lora.")  # type: ignore[assignment]
    virtual_tokens: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="Learnt vectors of `prompt` and `prefix`; auto is 16."
    )
    learn_from: Literal["last_answer", "all_answers"] | Auto = Field(
        "auto", description="Whose tokens count in the loss: the assistant's last turn (auto) or each of its turns."
    )
    augmentation: Literal["counterfactual"] | Auto = Field(
        "auto", description="Rows about women are learnt about men too, and the other way round; auto is none."
    )
    packing: bool | Auto = Field("auto", description="Several rows in a sequence, apart from each other; auto is no.")

    @field_validator("virtual_tokens")
    @classmethod
    def _virtual_tokens_are_of_prompts(cls, value: int | Auto, info: ValidationInfo) -> int | Auto:
        if value != "auto" and info.data.get("adaptation") not in (*WITH_VIRTUAL_TOKENS, None):
            raise _without_meaning("only the adaptations `prompt` and `prefix` have virtual tokens")
        return value

    @field_validator("packing")
    @classmethod
    def _packing_is_without_virtual_tokens(cls, value: bool | Auto, info: ValidationInfo) -> bool | Auto:
        if value is True and info.data.get("adaptation") in WITH_VIRTUAL_TOKENS:
            raise _without_meaning("virtual tokens stand before each row, so rows cannot share a sequence")
        return value


class DpoHyperparameters(AdaptingHyperparameters):
    """Direct preference optimisation (Rafailov et al., 2023)."""

    beta: Annotated[float, Field(gt=0, le=2)] | Auto = Field(
        "auto", description="How strongly the model is held to its base; auto is 0.1."
    )


class ReinforcementHyperparameters(AdaptingHyperparameters):
    """Group relative policy optimisation (Shao et al., 2024). `batch_size` counts prompts in a step."""

    samples_per_prompt: Annotated[int, Field(ge=2, le=64)] | Auto = Field(
        "auto", description="Answers that are compared with each other; auto is 8."
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=4096)] | Auto = Field("auto", description="auto is 48.")
    temperature: Annotated[float, Field(gt=0, le=2)] | Auto = Field("auto", description="Of the answers; auto is 1.")
    beta: Annotated[float, Field(ge=0, le=2)] | Auto = Field(
        "auto", description="Weight of the divergence from the base; auto is 0.02."
    )


class PretrainingHyperparameters(AdaptingHyperparameters):
    block_tokens: BlockTokens | Auto = Field("auto", description="Length of a training sequence; auto is 256.")


class MaskedLanguageModellingHyperparameters(Hyperparameters):
    """BERT's objective (Devlin et al., 2018)."""

    block_tokens: BlockTokens | Auto = Field("auto", description="Length of a training sequence; auto is 128.")
    mask_probability: Annotated[float, Field(gt=0, lt=1)] | Auto = Field("auto", description="auto is 0.15.")


class ClassificationHyperparameters(Hyperparameters):
    pass


class TokenClassificationHyperparameters(Hyperparameters):
    pass


class FineTuningSpec(BaseModel):
    """Everything that a worker needs to run a job, and nothing that can change meanwhile. One subclass a method."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: MethodName
    base_model: str
    training_file: str
    training_file_digest: str
    validation_file: str | None = None
    validation_file_digest: str | None = None
    suffix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    hyperparameters: Hyperparameters = Hyperparameters()

    base_task: ClassVar[EngineTask] = "generate"
    rows: ClassVar[frozenset[RowKind]]

    @property
    def needs_gpu(self) -> bool:
        return getattr(self.hyperparameters, "adaptation", None) == "qlora"

    def files(self) -> dict[str, tuple[str, str]]:
        """The name of each field that names a file, with the file and its digest."""
        fields = {"training_file": (self.training_file, self.training_file_digest)}
        if self.validation_file is not None and self.validation_file_digest is not None:
            fields["validation_file"] = (self.validation_file, self.validation_file_digest)
        return fields


class SupervisedSpec(FineTuningSpec):
    method: Literal["supervised"] = "supervised"
    hyperparameters: SupervisedHyperparameters = SupervisedHyperparameters()
    rows: ClassVar = frozenset({"chat", "pairs"})


class DpoSpec(FineTuningSpec):
    method: Literal["dpo"] = "dpo"
    hyperparameters: DpoHyperparameters = DpoHyperparameters()
    rows: ClassVar = frozenset({"preferences"})


class ReinforcementSpec(FineTuningSpec):
    method: Literal["reinforcement"] = "reinforcement"
    grader: Grader
    hyperparameters: ReinforcementHyperparameters = ReinforcementHyperparameters()
    rows: ClassVar = frozenset({"prompts"})


class PretrainingSpec(FineTuningSpec):
    method: Literal["pretraining"] = "pretraining"
    hyperparameters: PretrainingHyperparameters = PretrainingHyperparameters()
    general_file: str | None = None
    general_file_digest: str | None = None
    rows: ClassVar = frozenset({"text"})

    def files(self) -> dict[str, tuple[str, str]]:
        fields = super().files()
        if self.general_file is not None and self.general_file_digest is not None:
            fields["general_file"] = (self.general_file, self.general_file_digest)
        return fields


class MaskedLanguageModellingSpec(FineTuningSpec):
    method: Literal["masked_language_modelling"] = "masked_language_modelling"
    hyperparameters: MaskedLanguageModellingHyperparameters = MaskedLanguageModellingHyperparameters()
    base_task: ClassVar[EngineTask] = "embed"
    rows: ClassVar = frozenset({"text"})


class ClassificationSpec(FineTuningSpec):
    method: Literal["classification"] = "classification"
    hyperparameters: ClassificationHyperparameters = ClassificationHyperparameters()
    base_task: ClassVar[EngineTask] = "embed"
    rows: ClassVar = frozenset({"labels"})


class TokenClassificationSpec(FineTuningSpec):
    method: Literal["token_classification"] = "token_classification"
    hyperparameters: TokenClassificationHyperparameters = TokenClassificationHyperparameters()
    base_task: ClassVar[EngineTask] = "embed"
    rows: ClassVar = frozenset({"tags"})


AnySpec = Annotated[
    SupervisedSpec
    | DpoSpec
    | ReinforcementSpec
    | PretrainingSpec
    | MaskedLanguageModellingSpec
    | ClassificationSpec
    | TokenClassificationSpec,
    Field(discriminator="method"),
]
_ANY_SPEC: TypeAdapter[AnySpec] = TypeAdapter(AnySpec)


def parse_spec(spec: dict[str, Any]) -> AnySpec:
    """A job's spec as the store holds it. Those written before there were methods are `supervised`."""
    return _ANY_SPEC.validate_python({"method": "supervised", **spec})


def family_of(method: MethodName) -> str:
    """The job family that runs a method's jobs."""
    return f"finetune.{method}"


def _without_meaning(reason: str) -> PydanticCustomError:
    return PydanticCustomError("without_meaning", "it has no meaning here: {reason}", {"reason": reason})
