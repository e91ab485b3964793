"""What the fake engine can be told to do."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

POOLING_PATHS = ("/v1/embeddings", "/classify")
INFERENCE_PATHS = ("/v1/chat/completions", "/v1/completions", *POOLING_PATHS)


class Behaviour(BaseModel):
    """The default is a healthy engine that answers at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: tuple[str, ...] = INFERENCE_PATHS
    """Where this applies; every other route stays healthy."""
    for_requests: int | None = None
    """After so many requests the engine is healthy again. None: until told otherwise."""

    # Pace and length
    capacity: int | None = None
    """Requests that it works on at once; others wait in the order in which they came (vLLM's max_num_seqs)."""
    time_to_first_token_s: float = 0.0
    time_between_tokens_s: float = 0.0
    tokens: int = 8
    """Tokens of an answer; `max_tokens` of a request cuts it short."""
    says: tuple[str, ...] | None = None
    """The tokens of every answer, whatever was asked."""
    token_bytes: int | None = None
    """Length of one token's text; short words if None."""

    log_likelihood: float = -1.0
    """Of each token of a prompt, in nats, where a completion asks for `prompt_logprobs`."""

    silent_tokens: bool = False
    """Every few tokens of a stream tell no text of their own: the next one does."""

    prefers: str | None = None
    """Of choices in structured output: this one where it is among them, or the `first`; by chance if None."""

    # Prefix cache
    prefix_cache_tokens: int = 0
    """Tokens that the simulated KV cache keeps of prompts; none by default. A change empties it."""
    prefill_s_per_token: float = 0.0
    """Time that each prompt token which is not cached adds before the first token; prompts wait for one another."""

    # Errors that vLLM itself makes
    status: int | None = None
    body: Any = None
    """Sent with `status`: JSON, or a text as it is. vLLM's error envelope if None."""
    headers: dict[str, str] = {}
    """Added to the head of the answer."""
    error_after_chunks: int | None = None
    """A stream's event `{"error": …}` after so many events, then `[DONE]`."""

    # Broken connections
    close_before_headers: bool = False
    close_after_chunks: int | None = None
    """Closes after so many events of a stream; in an answer that is not streamed, after so many bytes."""
    close_in_mid_chunk: int | None = None
    """Closes after so many events and half of the next one."""
    reset: bool = False
    """Whatever closes the connection, closes it by a TCP reset."""
    close_when_idle: bool = False
    """Closes the connection after a whole answer without having said so."""

    # Broken or unusual HTTP
    garbage: Literal["head", "body"] | None = None
    """`head`: no HTTP at all. `body`: a chunk length that is not a number."""
    hang: Literal["before_headers", "after_headers"] | None = None
    hang_after_chunks: int | None = None
    end_delay_s: float = 0.0
    """Pause after a stream's last event, before its body ends."""
    header_delay_s: float = 0.0
    """Pause before each line of the head."""
    framing: Literal["length", "close_delimited", "tiny_chunks"] | None = None
    """How the end of the answer is told. None: as vLLM does."""
    wire_piece_bytes: int | None = None
    """The answer arrives in TCP segments of so many bytes."""

    # What /health and /metrics say
    health_status: int = 200
    requests_waiting: int = 0
    kv_cache_usage: float = 0.0
