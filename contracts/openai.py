"""Requests of the data path, in OpenAI's words plus the sampling fields of vLLM.

These are msgspec structs and not pydantic models because they are decoded on every request
(docs/decisions/002-msgspec-on-the-data-path.md). Unknown fields are refused, so that a misspelt
`temperatur` is an error and not a surprise. Messages, tools and formats pass through to the engine.

Sources: OpenAI API reference, "Create chat completion", "Create completion", "Create embeddings";
vLLM, "OpenAI-Compatible Server", "Extra parameters".
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Temperature = Annotated[float, Meta(ge=0, le=2)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
TokenCount = Annotated[int, Meta(ge=1)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Stops = str | Annotated[list[str], Meta(max_length=16)]
TokenIds = list[int]
Prompt = str | list[str | int | TokenIds]
"""A text, several texts, token ids, or several lists of token ids."""


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ChatMessage(Struct, frozen=True, omit_defaults=True):
    """Only what the gateway looks at; the rest of a message passes through untouched."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class GenerationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What chat completions and completions share."""

    model: str
    max_tokens: TokenCount | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    stop: Stops | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    # vLLM's own
    top_k: int | None = None
    min_p: Share | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    length_penalty: float | None = None
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    add_special_tokens: bool | None = None
    prompt_logprobs: int | None = None
    structured_outputs: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    priority: int | None = None
    return_token_ids: bool | None = None


class ChatCompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None

    # vLLM's own
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include_reasoning: bool | None = None


class CompletionRequest(GenerationRequest, frozen=True, kw_only=True):
    prompt: Prompt
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: Choices | None = None
    echo: bool | None = None
    suffix: str | None = None


class PoolingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What embeddings and classifications share: nothing is generated, and the same input has the same answer."""

    model: str
    input: Prompt
    user: str | None = None
    truncate_prompt_tokens: int | None = None


class EmbeddingRequest(PoolingRequest, frozen=True, kw_only=True):
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: TokenCount | None = None


class ClassificationRequest(PoolingRequest, frozen=True, kw_only=True):
    """vLLM's; OpenAI has no such route."""


DataPathRequest = ChatCompletionRequest | CompletionRequest | EmbeddingRequest | ClassificationRequest
