"""Captured answers, and what people say about answers. Every text in them is redacted."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Rating = Literal["up", "down"]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]


class CapturedTurn(BaseModel):
    model_config = ConfigDict(frozen=True)

    role: str
    content: str


class Feedback(BaseModel):
    """What a tenant thinks of one of its answers. The last feedback on an answer replaces the one before."""

    model_config = ConfigDict(frozen=True)

    id: str
    response_id: str
    tenant: str
    key: str = Field(description="Id of the key that gave it.")
    model: str = Field(description="The model that answered.")
    rating: Rating | None = None
    correction: str | None = Field(None, description="What the answer should have been.")
    tags: list[Tag] = []
    comment: str | None = None
    created_at: int = Field(description="Unix seconds.")


class Capture(BaseModel):
    """An answered request of a key that opted in."""

    model_config = ConfigDict(frozen=True)

    id: str
    response_id: str
    tenant: str
    key: str
    model: str = Field(description="The model that answered, whatever alias or model was asked for.")
    route: str
    messages: list[CapturedTurn] = Field(description="What was asked. A completion's prompt is a user's turn.")
    answer: str
    finish_reason: str | None = None
    user_hash: str | None = Field(None, description="Keyed hash of the request's `user`, to erase by.")
    redacted: dict[str, int] = Field(default_factory=dict, description="What was taken out, and how often, by kind.")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    duration_s: float = Field(description="Seconds from the first byte in to the last byte out.")
    first_token_s: float | None = Field(None, description="Seconds to a stream's first byte.")
    created_at: int = Field(description="Unix seconds.")
