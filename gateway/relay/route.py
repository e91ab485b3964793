"""The routes of the data path, and what differs between them."""

from dataclasses import dataclass

import msgspec

from contracts.classification import ClassificationAnswer, TokenClassificationAnswer
from contracts.engine import EngineTask
from contracts.openai import (
    ChatCompletionRequest,
    ClassificationRequest,
    CompletionRequest,
    DataPathRequest,
    EmbeddingRequest,
)


@dataclass(frozen=True, slots=True)
class DataPathRoute:
    path: str
    request: type[DataPathRequest]
    tasks: tuple[EngineTask, ...]
    operation: str  # of OpenTelemetry's GenAI conventions
    prompt_field: str
    summary: str
    engine_path: str  # where engines serve it
    answers: tuple[type[msgspec.Struct], ...] = ()  # documented where they are not OpenAI's


CHAT_COMPLETIONS = DataPathRoute(
    path="/v1/chat/completions",
    request=ChatCompletionRequest,
    tasks=("generate",),
    operation="chat",
    prompt_field="messages",
    summary="Create a chat completion.",
    engine_path="/v1/chat/completions",
)
COMPLETIONS = DataPathRoute(
    path="/v1/completions",
    request=CompletionRequest,
    tasks=("generate",),
    operation="text_completion",
    prompt_field="prompt",
    summary="Create a completion.",
    engine_path="/v1/completions",
)
EMBEDDINGS = DataPathRoute(
    path="/v1/embeddings",
    request=EmbeddingRequest,
    tasks=("embed",),
    operation="embeddings",
    prompt_field="input",
    summary="Create embeddings.",
    engine_path="/v1/embeddings",
)
CLASSIFICATIONS = DataPathRoute(
    path="/v1/classify",
    request=ClassificationRequest,
    tasks=("classify", "token_classify"),
    operation="classify",
    prompt_field="input",
    summary="Tell what texts are, or what is in them.",
    engine_path="/classify",
    answers=(ClassificationAnswer, TokenClassificationAnswer),
)
ROUTES = (CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, CLASSIFICATIONS)
