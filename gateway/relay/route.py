"""The three routes of the data path, and what differs between them."""

from dataclasses import dataclass

from contracts.engine import EngineTask
from contracts.openai import ChatCompletionRequest, CompletionRequest, DataPathRequest, EmbeddingRequest


@dataclass(frozen=True, slots=True)
class DataPathRoute:
    path: str
    request: type[DataPathRequest]
    task: EngineTask
    operation: str  # of OpenTelemetry's GenAI conventions
    prompt_field: str
    summary: str


CHAT_COMPLETIONS = DataPathRoute(
    "/v1/chat/completions", ChatCompletionRequest, "generate", "chat", "messages", "Create a chat completion."
)
COMPLETIONS = DataPathRoute(
    "/v1/completions", CompletionRequest, "generate", "text_completion", "prompt", "Create a completion."
)
EMBEDDINGS = DataPathRoute("/v1/embeddings", EmbeddingRequest, "embed", "embeddings", "input", "Create embeddings.")
ROUTES = (CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS)
