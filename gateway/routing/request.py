"""What the choice of an engine may depend on."""

from collections.abc import Iterable
from functools import cached_property

import msgspec

from contracts.openai import ChatCompletionRequest, ChatMessage, DataPathRequest, PoolingRequest, Prompt
from gateway.routing.engine import Engine
from gateway.routing.prefixes import MAX_PROMPT_BYTES, BlockKeys, block_keys

SESSION_HEADER = b"x-session-id"


class RoutingRequest:
    """A request as policies see it. Its prompt is looked at only when a policy asks, once."""

    def __init__(self, model: str, request: DataPathRequest, session: str | None = None) -> None:
        self.model = model
        self.session = session
        self.engine: Engine | None = None  # the one that was picked last
        self._request = request

    @property
    def streamed(self) -> bool:
        return bool(getattr(self._request, "stream", None))

    @cached_property
    def blocks(self) -> BlockKeys:
        """Keys of the prompt's blocks; none for an embedding or the like, whose engine keeps no prefixes."""
        if isinstance(self._request, PoolingRequest):
            return ()
        return block_keys(self.model, prompt_text(self._request))


def session_of(request: DataPathRequest, headers: dict[bytes, bytes]) -> str | None:
    """What the client calls its session: a header, or the request's `user`."""
    named = headers.get(SESSION_HEADER)
    return request.user if named is None else named.decode("latin-1")


def prompt_text(request: DataPathRequest) -> bytes:
    """The prompt in the order in which chat templates lay it out, tools first, up to what is looked at."""
    if isinstance(request, PoolingRequest):
        return _first_of(request.input)
    if not isinstance(request, ChatCompletionRequest):
        return _first_of(request.prompt)
    text = bytearray(msgspec.json.encode(request.tools)) if request.tools else bytearray()
    for message in request.messages:
        text += f"\n{message.role}\n".encode()
        for part in _parts(message):
            text += part
        if len(text) >= MAX_PROMPT_BYTES:
            break
    return bytes(text)


def _parts(message: ChatMessage) -> Iterable[bytes]:
    if isinstance(message.content, list):
        return (msgspec.json.encode(part) for part in message.content)
    return (_encoded(message.content or ""),)


def _first_of(prompt: Prompt) -> bytes:
    """Several prompts go to one engine together; the first speaks for them."""
    if isinstance(prompt, str):
        return _encoded(prompt)
    first = prompt[0] if prompt else ""
    if isinstance(first, str):
        return _encoded(first)
    tokens = first if isinstance(first, list) else prompt
    return msgspec.json.encode(tokens[:MAX_PROMPT_BYTES])


def _encoded(text: str) -> bytes:
    return text[:MAX_PROMPT_BYTES].encode("utf-8", "surrogatepass")
