"""Which answers are captured, and what is taken of them."""

import random
import time

import msgspec

from contracts.keys import ApiKey
from contracts.openai import ChatCompletionRequest, CompletionRequest, DataPathRequest
from contracts.settings import CaptureSettings
from gateway.capture.copying import CopyingExchange
from gateway.capture.feed import CaptureFeed
from gateway.capture.raw import RawCapture
from gateway.relay.exchange import Exchange
from gateway.relay.route import DataPathRoute
from gateway.relay.sse import Usage

OK = 200


class CaptureTaker:
    """Takes a sample of the answers that engines give to keys that opted in.

    Not taken: what a client asks not to store (`store: false`, `Cache-Control: no-store`), errors, embeddings and
    labels, answers from the cache or shared with another request (they have the id of the answer that was captured, or
    was not), and requests and answers that are longer than `max_bytes` together. Costs a sampled answer one copy of its
    bytes.
    """

    def __init__(self, feed: CaptureFeed, settings: CaptureSettings) -> None:
        self._feed = feed
        self._max_bytes = settings.max_bytes
        self._encode = msgspec.msgpack.Encoder().encode

    def watch(self, exchange: Exchange, key: ApiKey, request: DataPathRequest) -> Exchange:
        """The exchange to answer through: another one where the answer is to be captured."""
        if key.capture is None or random.random() >= key.capture:  # noqa: S311 (a sample is no secret)
            return exchange
        if not _may_be_stored(exchange, request):
            return exchange
        return CopyingExchange(exchange, self._max_bytes)

    def take(
        self,
        exchange: CopyingExchange,
        key: ApiKey,
        route: DataPathRoute,
        body: bytes,
        *,
        model: str,
        usage: Usage,
        first_byte_s: float | None,
    ) -> None:
        """To be called once the answer was sent. `model` is the one that gave it."""
        if exchange.status != OK or not exchange.finished:
            return
        answer = exchange.copied()
        if answer is None or len(body) + len(answer) > self._max_bytes:
            self._feed.count("too_long")
            return
        capture = RawCapture(
            request=body,
            answer=answer,
            tenant=key.tenant,
            key=key.id,
            model=model,
            route=route.path,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens or 0,
            duration_s=round(exchange.elapsed_s(), 4),
            first_token_s=None if first_byte_s is None else round(first_byte_s, 4),
            created_at=int(time.time()),
        )
        self._feed.offer(self._encode(capture))


def _may_be_stored(exchange: Exchange, request: DataPathRequest) -> bool:
    if not isinstance(request, ChatCompletionRequest | CompletionRequest):
        return False
    if isinstance(request, ChatCompletionRequest) and request.store is False:
        return False
    return b"no-store" not in exchange.request_headers.get(b"cache-control", b"").lower()
