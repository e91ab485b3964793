"""`method` of a fine-tuning job: `{"type": "dpo", "dpo": {"hyperparameters": {…}}}`, one block a method."""

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from contracts.fine_tuning import (
    ClassificationHyperparameters,
    ClassificationSpec,
    DpoHyperparameters,
    DpoSpec,
    FineTuningSpec,
    MaskedLanguageModellingHyperparameters,
    MaskedLanguageModellingSpec,
    MethodName,
    PretrainingHyperparameters,
    PretrainingSpec,
    ReinforcementHyperparameters,
    ReinforcementSpec,
    SupervisedHyperparameters,
    SupervisedSpec,
    TokenClassificationHyperparameters,
    TokenClassificationSpec,
)
from contracts.graders import Grader

SPECS: dict[MethodName, type[FineTuningSpec]] = {
    "supervised": SupervisedSpec,
    "dpo": DpoSpec,
    "reinforcement": ReinforcementSpec,
    "pretraining": PretrainingSpec,
    "masked_language_modelling": MaskedLanguageModellingSpec,
    "classification": ClassificationSpec,
    "token_classification": TokenClassificationSpec,
}


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SupervisedMethod(_Block):
    hyperparameters: SupervisedHyperparameters = SupervisedHyperparameters()


class DpoMethod(_Block):
    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class ReinforcementMethod(_Block):
    grader: Grader
    hyperparameters: ReinforcementHyperparameters = ReinforcementHyperparameters()


class PretrainingMethod(_Block):
    """`general_file` is text of another kind, on which the model is measured before and after."""

    general_file: str | None = None
    hyperparameters: PretrainingHyperparameters = PretrainingHyperparameters()


class MaskedLanguageModellingMethod(_Block):
    hyperparameters: MaskedLanguageModellingHyperparameters = MaskedLanguageModellingHyperparameters()


class ClassificationMethod(_Block):
    hyperparameters: ClassificationHyperparameters = ClassificationHyperparameters()


class TokenClassificationMethod(_Block):
    hyperparameters: TokenClassificationHyperparameters = TokenClassificationHyperparameters()


class Method(BaseModel):
    """Only the block that `type` names may be there; it may be left out where everything in it has a default."""

    model_config = ConfigDict(extra="forbid")

    type: MethodName = "supervised"
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: ReinforcementMethod | None = None
    pretraining: PretrainingMethod | None = None
    masked_language_modelling: MaskedLanguageModellingMethod | None = None
    classification: ClassificationMethod | None = None
    token_classification: TokenClassificationMethod | None = None

    @classmethod
    def of(cls, spec: FineTuningSpec) -> "Method":
        block_type = _BLOCKS[spec.method]
        fields = {name: getattr(spec, name) for name in block_type.model_fields}
        return cls.model_validate({"type": spec.method, spec.method: block_type.model_construct(**fields)})

    @field_validator(*SPECS)
    @classmethod
    def _is_the_block_of_the_type(cls, value: _Block | None, info: ValidationInfo) -> _Block | None:
        chosen = info.data.get("type")
        if value is not None and chosen is not None and info.field_name != chosen:
            raise PydanticCustomError("other_method", "the method's type is `{type}`", {"type": chosen})
        return value

    @model_validator(mode="after")
    def _reinforcement_has_a_grader(self) -> "Method":
        if self.type == "reinforcement" and self.reinforcement is None:
            raise PydanticCustomError("no_grader", "`reinforcement.grader` is required")
        return self

    @model_serializer(mode="wrap")
    def _without_other_blocks(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    def chosen_fields(self) -> dict[str, Any]:
        """What was chosen, by the names of the spec's fields."""
        block = getattr(self, self.type) or _BLOCKS[self.type]()
        return {name: getattr(block, name) for name in type(block).model_fields}


_BLOCKS: dict[MethodName, type[_Block]] = {
    "supervised": SupervisedMethod,
    "dpo": DpoMethod,
    "reinforcement": ReinforcementMethod,
    "pretraining": PretrainingMethod,
    "masked_language_modelling": MaskedLanguageModellingMethod,
    "classification": ClassificationMethod,
    "token_classification": TokenClassificationMethod,
}
