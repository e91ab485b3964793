"""The catalogue: which models exist, where their weights come from, and how vLLM is started for them."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.engine import EngineTask

BUILT_IN = Path(__file__).with_name("catalogue.yaml")


class CatalogueError(Exception):
    """The catalogue cannot be used; the message names the file and the field."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageSource(_Entry):
    """Weights that a Python package ships."""

    kind: Literal["package"]
    package: str = Field(description="Import name of the package.")
    path: str = Field(description="File or folder inside the package.")
    format: Literal["gguf", "folder"] = Field(description="`gguf` is converted once; a `folder` is used as it is.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Of the file, or of the folder's files.")


class FolderSource(_Entry):
    """A folder in Hugging Face's layout on this machine."""

    kind: Literal["folder"]
    path: Path


class HubSource(_Entry):
    """A repository of the Hugging Face hub."""

    kind: Literal["huggingface"]
    id: str
    revision: str = Field("main", description="Branch, tag or commit; a commit pins the weights.")


Source = Annotated[PackageSource | FolderSource | HubSource, Field(discriminator="kind")]


class EngineOptions(_Entry):
    """vLLM's own option names (docs.vllm.ai, "Engine Arguments")."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="What it computes in; if unset 16 bits, or 32 on a CPU that has no instructions for those."
    )
    max_num_seqs: Annotated[int, Field(ge=1)] = Field(64, description="Requests in a batch at most.")
    enforce_eager: bool = Field(False, description="Start without compiling: sooner up, slower after.")
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = Field(0.9, description="Share of a GPU's memory.")
    tensor_parallel_size: Annotated[int, Field(ge=1)] = Field(1, description="GPUs that share each layer.")
    pipeline_parallel_size: Annotated[int, Field(ge=1)] = Field(
        1, description="Groups of such GPUs that share the layers out; with several machines usually one on each."
    )
    max_loras: Annotated[int, Field(ge=1)] = Field(4, description="Adapters in one batch at most.")
    max_cpu_loras: Annotated[int, Field(ge=1)] = Field(
        32, description="Adapters that it has loaded at most: those asked for most recently."
    )
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = Field(64, description="Adapters of a higher rank are refused.")
    pooling: Literal["MEAN", "CLS", "LAST"] | None = Field(
        None, description="How an embedding is made of its tokens'; what the weights' files say if unset."
    )

    @model_validator(mode="after")
    def _a_batchs_adapters_are_loaded(self) -> "EngineOptions":
        if self.max_loras > self.max_cpu_loras:
            raise ValueError("max_loras cannot be more than max_cpu_loras")
        return self


class CatalogueModel(_Entry):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", description="The name that clients use.")
    task: EngineTask
    source: Source
    licence: str | None = None
    context_length: Annotated[int, Field(ge=16)] = Field(description="Longest prompt plus completion, in tokens.")
    input_price: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of a million prompt tokens, in the currency of the budgets; counts against budgets of money."
    )
    output_price: Annotated[float, Field(ge=0)] | None = Field(None, description="Of a million completion tokens.")
    on_demand: bool = Field(False, description="Its engine is started at the first request.")
    default_sampling: dict[str, float] = Field(
        default_factory=dict, description="Sampling fields for requests that do not set them, for example temperature."
    )
    engine: EngineOptions = EngineOptions()


class Catalogue(_Entry):
    models: tuple[CatalogueModel, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Catalogue":
        names = [model.name for model in self.models]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"these names stand twice: {', '.join(sorted(twice))}")
        return self

    @classmethod
    def load(cls, path: Path | None) -> "Catalogue":
        """Reads a catalogue, the built-in one if `path` is None. Raises CatalogueError."""
        file = BUILT_IN if path is None else path
        try:
            return cls.model_validate(yaml.safe_load(file.read_text()))
        except OSError as error:
            raise CatalogueError(f"{file}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise CatalogueError(f"{file}: not valid YAML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CatalogueError(f"{file}: {field or 'the file'}: {first['msg']}") from None

    def require(self, name: str) -> CatalogueModel:
        """Raises CatalogueError that lists what there is."""
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise CatalogueError(f"There is no model `{name}` in the catalogue; it has {known}.")
