"""The model card: what Flywheel knows of a base model and of what jobs make of it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.engine import EngineTask

ModelKind = Literal["base", "adapter", "full"]
"""`full` is a whole set of weights that a job made: `weights` is a path in the artifact store, `parent` its base. An
engine of its own serves it, started on demand (`on_demand`)."""


class ModelCard(BaseModel):
    """One servable model. Names follow OpenAI: `<base>` or `ft:<base>:<tenant>:<suffix>:<id>`."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: ModelKind
    task: EngineTask
    parent: str | None = Field(None, description="The model that an adapter or a full model was trained from.")
    tenant: str | None = Field(None, description="Owner; None where every tenant may use it.")
    weights: str = Field(description="Base: local folder or Hugging Face id. Else: path in the artifact store.")
    digest: str = Field(description="`sha256:…` over the weights' files.")
    data_digest: str | None = Field(None, description="`sha256:…` of the training file.")
    job: str | None = Field(None, description="The fine-tuning job that made it.")
    metrics: dict[str, float] = Field(default_factory=dict)
    licence: str | None = None
    context_length: int = Field(description="Longest prompt plus completion, in tokens.")
    input_price: float | None = Field(None, ge=0, description="Of a million prompt tokens; None costs nothing.")
    output_price: float | None = Field(None, ge=0, description="Of a million completion tokens; None costs nothing.")
    on_demand: bool = Field(
        False, description="A supervisor starts its engine at the first request; of an adapter, its base's engine."
    )
    created_at: int = Field(description="Unix seconds.")
