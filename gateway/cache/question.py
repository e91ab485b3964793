"""Which requests a similar question's answer may serve, and what of them must be equal."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts.models import ModelCard
from contracts.openai import ChatCompletionRequest, DataPathRequest
from gateway.cache.digest import canonical

FORM = b"1"
"""Of the context and of what is kept under it. A new one makes all that was kept before unreachable."""
MOST_BYTES_PER_TOKEN = 8
"""A text with more bytes than this for each token of the embedding model's context is surely too long for it."""
TIED_TO_ONE_QUESTION = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "return_token_ids",
    "continue_final_message",
)
"""Fields whose answer acts, or tells about the very prompt that it was given for."""
PLAIN_MESSAGE = frozenset({"role", "content", "name"})
SPEAKERS = frozenset({"system", "developer", "user", "assistant"})


@dataclass(frozen=True, slots=True)
class Question:
    """The last thing that a user said, and the digest of all else that an answer depends on."""

    text: str
    context: str


def question_of(
    request: DataPathRequest, body: bytes, card: ModelCard, embeddings: ModelCard, policy: str = ""
) -> Question | None:
    """None where only the answer to this very question will do.

    That is all but chats in plain text: no tools, no messages of tools, no picture in the last message, no
    probabilities. Decodes the body once more, some 10 microseconds for a kilobyte.
    """
    if not isinstance(request, ChatCompletionRequest) or request.messages[-1].role != "user":
        return None
    document = msgspec.json.decode(body)
    if any(document.get(field) for field in TIED_TO_ONE_QUESTION):
        return None
    *earlier, last = document["messages"]
    if not all(_is_plain(message) for message in (*earlier, last)):
        return None
    text = _text_of(last.pop("content"))
    if not text or len(text.encode()) > MOST_BYTES_PER_TOKEN * embeddings.context_length:
        return None
    parts = [FORM, card.digest.encode(), embeddings.digest.encode(), canonical(document)]
    if policy:
        parts.append(policy.encode())
    context = hashlib.sha256(b"\0".join(parts))
    return Question(text, context.hexdigest())


def _is_plain(message: dict[str, Any]) -> bool:
    said = {field for field, value in message.items() if value is not None}
    return message["role"] in SPEAKERS and said <= PLAIN_MESSAGE


def _text_of(content: str | list[dict[str, Any]] | None) -> str:
    """One line; empty where the content is not only text."""
    if isinstance(content, list):
        if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in content):
            return ""
        content = " ".join(part["text"] for part in content)
    return " ".join((content or "").split())
