"""The data path: chat completions, completions, embeddings and classifications.

Each route is served twice: below ASGI, by `gateway.relay.direct`, and as a plain ASGI application.

A request meets, in this order: authentication, decoding, the model, limits and cache (one Redis round trip), an
engine, and the way back. Everything that can wait is done after the last byte was sent.
"""

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from contracts.errors import (
    ApiError,
    EngineError,
    EnginesFull,
    EngineTimeout,
    InvalidValue,
    NoEngineAvailable,
    RateLimitExceeded,
    ServerError,
)
from contracts.keys import ApiKey
from contracts.keys import Scope as KeyScope
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from gateway.auth.keys import Authenticator
from gateway.background import Background
from gateway.cache.answers import AnswerCache
from gateway.cache.kept import KeptAnswer
from gateway.cache.repeats import BYPASS, CacheUse
from gateway.cache.replay import replay
from gateway.cache.semantic import SemanticCache
from gateway.cache.single_flight import SingleFlight
from gateway.capture.copying import CopyingExchange
from gateway.capture.marks import AnswerMarks
from gateway.capture.taking import CaptureTaker
from gateway.limits.admission import AdmissionControl
from gateway.queueing.deadline import NO_DEADLINE, Deadline
from gateway.queueing.queue import EngineQueue
from gateway.relay import engine_errors
from gateway.relay.answer import pass_on
from gateway.relay.answering import Answering
from gateway.relay.decode import check_length, decode_request, estimate_tokens, rename_model, without_priority
from gateway.relay.exchange import (
    MODEL_HEADER,
    REQUEST_ID_HEADER,
    AsgiExchange,
    ClientDisconnected,
    Exchange,
    HeaderList,
    Receive,
    Scope,
    Send,
)
from gateway.relay.forward import Forwarder
from gateway.relay.record import Progress, Recorder
from gateway.relay.route import DataPathRoute
from gateway.relay.sse import error_event
from gateway.relay.tracing import Tracing
from gateway.relay.upstream import UpstreamError
from gateway.routing.aliases import Aliases
from gateway.routing.fallbacks import Fallbacks
from gateway.routing.models import ModelDirectory
from gateway.routing.request import RoutingRequest, session_of
from gateway.routing.shadow import Shadows

INFERENCE: tuple[KeyScope, ...] = ("inference",)
ENGINE_FAILURES = (NoEngineAvailable, EngineError, EngineTimeout)
CANDIDATE_FAILURES = (*ENGINE_FAILURES, EnginesFull)


@dataclass(frozen=True, slots=True)
class DataPath:
    """The parts that a request meets. Built once, in `gateway.app`."""

    authenticator: Authenticator
    models: ModelDirectory
    admission: AdmissionControl
    cache: AnswerCache
    semantic: SemanticCache
    flights: SingleFlight
    queue: EngineQueue
    aliases: Aliases
    fallbacks: Fallbacks
    shadows: Shadows
    forwarder: Forwarder
    recorder: Recorder
    captures: CaptureTaker
    marks: AnswerMarks
    background: Background
    tracing: Tracing
    max_body_bytes: int


class DataPathEndpoint:
    """Answers one route; also an ASGI application."""

    def __init__(self, route: DataPathRoute, path: DataPath) -> None:
        self._route = route
        self._path = path
        self._decoder = msgspec.json.Decoder(route.request)
        self._log = structlog.get_logger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.handle(AsgiExchange(scope, receive, send))

    async def handle(self, exchange: Exchange) -> None:
        progress = Progress(self._path.tracing.begin(self._route.operation, exchange.request_headers))
        try:
            await self._answer(exchange, progress)
        except ApiError as error:
            progress.failed = progress.failed or isinstance(error, ENGINE_FAILURES)
            await self._fail(exchange, progress, error)
        except ClientDisconnected:
            progress.disconnected = True
        except Exception:  # noqa: BLE001 (the process boundary)
            self._log.exception("request failed", request_id=exchange.request_id)
            await self._fail(exchange, progress, ServerError("The server failed to answer the request."))
        finally:
            self._path.recorder.record(self._route, exchange, progress)

    async def _answer(self, exchange: Exchange, progress: Progress) -> None:
        path = self._path
        key = progress.key = await path.authenticator.authenticate(
            exchange.header(b"authorization"), address=exchange.client_address, scopes=INFERENCE
        )
        progress.deadline = Deadline.of(exchange.request_headers)
        body = await exchange.read_body(path.max_body_bytes)
        request = decode_request(body, self._decoder)
        if path.aliases.knows(request.model):
            subject = session_of(request, exchange.request_headers) or key.id
            card, progress.trial = path.aliases.resolve(request.model, key, subject)
            body = rename_model(body, card.name)
            exchange.headers.append((MODEL_HEADER, card.name.encode()))
        else:
            card = path.models.require(request.model, key)
        progress.card = card
        if card.task not in self._route.tasks:
            raise InvalidValue(f"The model `{card.name}` cannot be used at {self._route.path}.", param="model")
        check_length(request, card)
        use = path.cache.use(request, body, card, self._route.path, exchange.request_headers)
        kept = path.cache.recall(key.tenant, use)
        if kept is None and use.max_age_s is not None:
            kept = await path.cache.find(key.tenant, use)
        prompt_tokens, completion_tokens = estimate_tokens(request, body, card) if kept is None else (0, 0)
        progress.estimated_tokens = prompt_tokens + completion_tokens
        admission = progress.admission = await path.admission.admit(
            key,
            card,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cache_digest=use.digest if kept is None and use.read and use.max_age_s is None else None,
        )
        exchange.headers += admission.headers
        if admission.cached is not None:
            kept = path.cache.open(key.tenant, use, admission.cached)
        if kept is not None:
            progress.cache = "hit"
            await replay(exchange, kept, result=b"hit")
            return
        if key.capture is not None:
            exchange = path.captures.watch(exchange, key, request)

        async def generate(shared: Exchange) -> KeptAnswer | None:
            return await self._generate(shared, progress, card, request, body, use)

        progress.cache = "miss" if use.read else "bypass"
        try:
            async with progress.deadline.enforced():
                if key.semantic_cache and use.read:
                    use, similar = await path.semantic.find(key.tenant, request, body, card, use)
                    if similar is not None:
                        progress.cache = "semantic"
                        await replay(exchange, similar.answer, result=b"semantic", more=similar.headers)
                        return
                progress.cache = await path.flights.answer(
                    exchange, key.tenant, use, generate, leads=progress.deadline is NO_DEADLINE
                )
        finally:
            self._settle(progress)
        self._capture(exchange, progress, key, body)

    async def _generate(
        self,
        exchange: Exchange,
        progress: Progress,
        card: ModelCard,
        request: DataPathRequest,
        body: bytes,
        use: CacheUse,
    ) -> KeptAnswer | None:
        """Relays an engine's answer, and ends all work at once when the client leaves."""
        task = asyncio.current_task()
        assert task is not None
        gone = False

        def leave() -> None:
            nonlocal gone
            if not exchange.finished:
                gone = True
                task.cancel()

        exchange.watch(leave)
        if getattr(request, "priority", None) is not None:
            body = without_priority(body)
        try:
            self._path.shadows.copy(request, body, model=card.name, path=self._route.engine_path, trial=progress.trial)
            return await self._relay_first(exchange, progress, card, request, body, use)
        except asyncio.CancelledError:
            if gone and task.uncancel() == 0:
                raise ClientDisconnected from None
            raise
        finally:
            exchange.watch(None)

    async def _relay_first(
        self,
        exchange: Exchange,
        progress: Progress,
        card: ModelCard,
        request: DataPathRequest,
        body: bytes,
        use: CacheUse,
    ) -> KeptAnswer | None:
        """Relays the answer of the model, or of the first of its fallbacks that gives one, which is not kept.

        A release's candidate is replaced also where its engines are full, which the stable model's may not be.
        """
        assert progress.key is not None
        trial = progress.trial
        replaced = CANDIDATE_FAILURES if trial is not None and trial.is_candidate else ENGINE_FAILURES
        for fallback in self._path.fallbacks.of(card, progress.key, request, trial):
            try:
                return await self._relay_in_turn(exchange, progress, card, request, body, use, patiently=False)
            except replaced:
                if exchange.status is not None:
                    raise
            progress.failed = True
            self._path.fallbacks.note(card, fallback)
            progress.card, card, use = fallback, fallback, BYPASS
            body = rename_model(body, card.name)
            exchange.headers = [header for header in exchange.headers if header[0] != MODEL_HEADER]
            exchange.headers.append((MODEL_HEADER, card.name.encode()))
        return await self._relay_in_turn(exchange, progress, card, request, body, use)

    async def _relay_in_turn(
        self,
        exchange: Exchange,
        progress: Progress,
        card: ModelCard,
        request: DataPathRequest,
        body: bytes,
        use: CacheUse,
        *,
        patiently: bool = True,
    ) -> KeptAnswer | None:
        """Relays an engine's answer once there is a place for it."""
        assert progress.key is not None
        place = self._path.queue.place(
            card,
            tenant=progress.key.tenant,
            tokens=progress.estimated_tokens,
            priority=getattr(request, "priority", None) or 0,
            deadline=progress.deadline,
        )
        async with place, progress.deadline.enforced():
            kept = await self._relay(exchange, progress, card, request, body, use, patiently=patiently)
            place.used_tokens = progress.usage.total_tokens or None
            return kept

    async def _relay(
        self,
        exchange: Exchange,
        progress: Progress,
        card: ModelCard,
        request: DataPathRequest,
        body: bytes,
        use: CacheUse,
        *,
        patiently: bool = True,
    ) -> KeptAnswer | None:
        answering = Answering(
            self._path.forwarder,
            self._route,
            card,
            RoutingRequest(card.name, request, session_of(request, exchange.request_headers)),
            request,
            body,
            self._engine_headers(exchange, progress, card),
            patiently=patiently,
        )
        try:
            response = await answering.begin()
            if response.status != 200:
                raw = await response.read(engine_errors.MAX_ERROR_BYTES)
                raise engine_errors.translate(response.status, raw, prompt_field=self._route.prompt_field)
            return await pass_on(
                exchange,
                progress,
                response,
                answering,
                max_copy_bytes=self._path.cache.max_entry_bytes if use.write else 0,
            )
        except UpstreamError as error:
            self._log.warning("answer broke off", reason=type(error).__name__)
            raise EngineError("The engine failed in the middle of its answer.") from None
        finally:
            answering.end()
            if answering.engine is not None:
                progress.engine = answering.engine.lease.engine

    def _capture(self, exchange: Exchange, progress: Progress, key: ApiKey, body: bytes) -> None:
        """After the last byte. An answer that was shared is captured by the request that it was generated for."""
        if not isinstance(exchange, CopyingExchange) or progress.cache == "collapsed":
            return
        assert progress.card is not None
        self._path.captures.take(
            exchange,
            key,
            self._route,
            body,
            model=progress.card.name,
            usage=progress.usage,
            first_byte_s=progress.first_byte_s,
        )

    def _settle(self, progress: Progress) -> None:
        """Gives back what was reserved and not used. An answer cut short states no usage: what it reserved is spent."""
        assert progress.admission is not None
        unknown = progress.usage.total_tokens == 0 and progress.first_byte_s is not None
        self._path.admission.settle(progress.admission, None if unknown else progress.usage)

    @staticmethod
    async def _fail(exchange: Exchange, progress: Progress, error: ApiError) -> None:
        """Sends the error, in a stream as its last event. A whole answer that has begun ends with its connection."""
        progress.limited = isinstance(error, RateLimitExceeded)
        if exchange.status is None:
            await exchange.send_error(error)
        elif progress.first_byte_s is not None and not exchange.finished:
            await exchange.finish(error_event(error))

    def _engine_headers(self, exchange: Exchange, progress: Progress, card: ModelCard) -> HeaderList:
        """The client's own headers end here; what goes on is the trace context and the request id, marked."""
        assert progress.key is not None
        request_id = self._path.marks.mark(exchange.request_id, progress.key.tenant, card.name)
        return [
            (b"content-type", b"application/json"),
            (REQUEST_ID_HEADER, request_id.encode()),
            (b"traceparent", progress.trace.traceparent),
        ]
