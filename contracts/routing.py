"""Which models stand in for others: the file that `FLYWHEEL_GATEWAY__ROUTING_FILE` names, as YAML or JSON.

fallbacks:
  large-model: [small-model]
aliases:
  assistant:
    - {model: large-model, weight: 9}
    - {model: candidate, weight: 1}
shadows:
  assistant: {model: next-model, share: 0.05}
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

ModelName = Annotated[str, Field(min_length=1)]


class AliasTarget(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="Its part of the alias's users, among weights.")


class ShadowTarget(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    share: float = Field(gt=0, le=1, description="Share of the requests that are copied to it.")


class RoutingTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fallbacks: dict[ModelName, tuple[ModelName, ...]] = Field(
        {}, description="Models to ask in order, where no engine serves a model or all fail before the first byte."
    )
    aliases: dict[ModelName, Annotated[tuple[AliasTarget, ...], Field(min_length=1)]] = Field(
        {}, description="Names that stand for one of several models; each session, user or key keeps to one."
    )
    shadows: dict[ModelName, ShadowTarget] = Field(
        {}, description="By alias or model: the model that gets copies of its requests and whose answers are dropped."
    )

    @model_validator(mode="after")
    def _check_that_targets_are_models(self) -> "RoutingTable":
        targets = {target.model for alias in self.aliases.values() for target in alias}
        targets |= {name for names in self.fallbacks.values() for name in names}
        targets |= {shadow.model for shadow in self.shadows.values()}
        if wrong := sorted(targets & self.aliases.keys()):
            raise ValueError(f"an alias cannot stand for another alias: {', '.join(wrong)}")
        return self
