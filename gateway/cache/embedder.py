"""Texts as vectors, by an embedding engine."""

import base64
import binascii

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.models import ModelCard
from contracts.openai import EmbeddingRequest
from gateway.cache.bounded import BoundedMap
from gateway.relay.forward import Forwarder
from gateway.relay.route import EMBEDDINGS
from gateway.routing.request import RoutingRequest

Vector = NDArray[np.float32]

MOST_TEXTS = 1024
MAX_ANSWER_BYTES = 256 * 1024
HEADERS = [(b"content-type", b"application/json")]


class NotEmbedded(Exception):
    """The engine has no vector for this text: it is too long, or the engine is not what it should be."""


class _Embedding(msgspec.Struct):
    embedding: str


class _Answer(msgspec.Struct):
    data: list[_Embedding]


_decoder = msgspec.json.Decoder(_Answer)


class Embedder:
    """Asks an engine that is there now, as any request of the data path does; the last `MOST_TEXTS` texts it knows.

    Where there is none it asks for one to be started, if the model is one that starts on demand, and does not wait.
    """

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._known: BoundedMap[tuple[str, str], Vector] = BoundedMap(MOST_TEXTS)

    async def embed(self, text: str, card: ModelCard) -> Vector:
        """A vector of length 1. Raises NotEmbedded, UpstreamError, and what `Forwarder.forward` raises."""
        vector = self._known.get((card.digest, text))
        if vector is None:
            vector = self._known[card.digest, text] = await self._ask(text, card)
        return vector

    async def _ask(self, text: str, card: ModelCard) -> Vector:
        request = EmbeddingRequest(model=card.name, input=text, encoding_format="base64")
        body, routing = msgspec.json.encode(request), RoutingRequest(card.name, request)
        reply = await self._forwarder.forward(card, routing, EMBEDDINGS.path, HEADERS, body, patiently=False)
        try:
            raw = await reply.response.read(MAX_ANSWER_BYTES)
        finally:
            reply.end()
        if reply.response.status != 200:
            raise NotEmbedded
        try:
            vector = np.frombuffer(base64.b64decode(_decoder.decode(raw).data[0].embedding), dtype="<f4")
        except (msgspec.DecodeError, binascii.Error, IndexError, ValueError):
            raise NotEmbedded from None
        length = float(np.linalg.norm(vector))
        if not 0 < length < np.inf:
            raise NotEmbedded
        return (vector / length).astype(np.float32)
