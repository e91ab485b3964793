"""How an engine serves a model's weights, where that belongs to the model: a file beside them, under their digest.

The job that made the model measured it so; an engine that started it otherwise would serve something else.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SERVING_FILE = "serving.json"
DRAFT_FOLDER = "draft"
"""Inside the weights' folder: the small model that guesses, for speculative decoding."""


class ServingFileInvalid(Exception):
    """The file beside the weights is not one that an engine may follow; the message names the field."""


class Speculation(BaseModel):
    """Some of the next tokens are guessed and checked at once, so that several may come of one step. What is said does
    not change (Leviathan et al., 2023).

    `ngram` guesses what followed the same words earlier in the prompt or answer, `draft` asks the model in
    `DRAFT_FOLDER`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["ngram", "draft"]
    tokens: Annotated[int, Field(ge=1, le=16)] = Field(3, description="Guessed at once.")
    longest_match: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="Words of the n-gram at most; 4 if unset, and only for `ngram`."
    )

    @model_validator(mode="after")
    def _only_ngrams_match(self) -> Self:
        if self.method == "draft" and self.longest_match is not None:
            raise ValueError("longest_match belongs to the method ngram")
        return self


class ServingOptions(BaseModel):
    """Beside what the catalogue says of the base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapters: bool = Field(True, description="Be ready for adapters of this model, which costs time with every token.")
    compiled: bool | None = Field(
        None, description="Compile the model at the start: up later, faster after; as the catalogue says if unset."
    )
    speculation: Speculation | None = None
    kv_cache_dtype: Literal["fp8", "fp8_e4m3", "fp8_e5m2"] | None = Field(
        None, description="Numbers in which keys and values are kept; the weights' if unset."
    )

    @classmethod
    def read(cls, weights: Path) -> "ServingOptions":
        """What stands beside the weights; nothing special where nothing does. Raises ServingFileInvalid."""
        file = weights / SERVING_FILE
        if not file.is_file():
            return cls()
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ServingFileInvalid(f"{SERVING_FILE}: {field or 'the file'}: {first['msg']}") from None

    def write(self, weights: Path) -> None:
        (weights / SERVING_FILE).write_text(self.model_dump_json(exclude_none=True))
