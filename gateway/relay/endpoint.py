"""The data path: chat completions, completions, embeddings and classifications.

Each route is served twice: below ASGI, by `gateway.relay.direct`, and as a plain ASGI application.

A request meets, in this order: authentication, decoding, the model, limits and cache (one Redis round trip), an
engine, and the way back. Everything that can wait is done after the last byte was sent.
"""

from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from contracts.errors import ApiError, InvalidValue, RateLimitExceeded, ServerError
from contracts.keys import Scope as KeyScope
from contracts.models import ModelCard
from contracts.openai import DataPathRequest
from gateway.auth.keys import Authenticator
from gateway.cache.answers import AnswerCache
from gateway.cache.kept import KeptAnswer
from gateway.cache.replay import replay
from gateway.cache.semantic import SemanticCache
from gateway.cache.single_flight import SingleFlight
from gateway.capture.copying import CopyingExchange
from gateway.capture.taking import CaptureTaker
from gateway.guardrails.guards import GuardBook, Guards
from gateway.guardrails.requests import RequestGuard
from gateway.limits.admission import AdmissionControl
from gateway.queueing.deadline import NO_DEADLINE, Deadline
from gateway.relay.call import Call
from gateway.relay.decode import check_length, decode_request, estimate_tokens, rename_model
from gateway.relay.exchange import MODEL_HEADER, AsgiExchange, ClientDisconnected, Exchange, Receive, Scope, Send
from gateway.relay.generation import ENGINE_FAILURES, Generation
from gateway.relay.record import Progress, Recorder
from gateway.relay.route import DataPathRoute
from gateway.relay.sse import error_event
from gateway.relay.tracing import Tracing
from gateway.routing.aliases import Aliases
from gateway.routing.models import ModelDirectory
from gateway.routing.request import session_of

INFERENCE: tuple[KeyScope, ...] = ("inference",)


@dataclass(frozen=True, slots=True)
class DataPath:
    """The parts that a request meets. Built once, in `gateway.app`."""

    authenticator: Authenticator
    aliases: Aliases
    models: ModelDirectory
    cache: AnswerCache
    admission: AdmissionControl
    semantic: SemanticCache
    flights: SingleFlight
    generation: Generation
    captures: CaptureTaker
    guard_book: GuardBook
    recorder: Recorder
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
        call = await self._understand(exchange, progress)
        kept = await self._admit(call, exchange)
        if kept is not None:
            progress.cache = "hit"
            await replay(exchange, kept, result=b"hit")
            return
        try:
            async with progress.deadline.enforced():
                await self._answer_anew(call, exchange)
        finally:
            self._settle(progress)

    async def _understand(self, exchange: Exchange, progress: Progress) -> Call:
        """Who asks what of which model. Raises ApiError with the field that is wrong."""
        path, route = self._path, self._route
        key = progress.key = await path.authenticator.authenticate(
            exchange.header(b"authorization"), address=exchange.client_address, scopes=INFERENCE
        )
        progress.deadline = Deadline.of(exchange.request_headers)
        body = await exchange.read_body(path.max_body_bytes)
        request = decode_request(body, self._decoder)
        guards = None
        if key.guardrails is not None:
            guards = path.guard_book.of(key, key.guardrails)
            guarded = await self._guard(guards, request, body, exchange, progress)
            if guarded is not body:
                body, request = guarded, decode_request(guarded, self._decoder)
        session = session_of(request, exchange.request_headers)
        if path.aliases.knows(request.model):
            card, progress.trial = path.aliases.resolve(request.model, key, session or key.id)
            body = rename_model(body, card.name)
            exchange.headers.append((MODEL_HEADER, card.name.encode()))
        else:
            card = path.models.require(request.model, key)
        progress.card = card
        self._check_task(card)
        check_length(request, card)
        policy = "" if guards is None else guards.digest
        use = path.cache.use(request, body, card, route.path, exchange.request_headers, policy)
        return Call(route, key, request, body, card, session, use, progress, guards)

    async def _guard(
        self, guards: Guards, request: DataPathRequest, body: bytes, exchange: Exchange, progress: Progress
    ) -> bytes:
        """What the key's policy makes of the body. Raises ContentFiltered and InvalidValue."""
        guard = RequestGuard(guards, self._route.prompt_field)
        try:
            return await guard.check(request, body)
        finally:
            progress.guarded += guard.acts
            exchange.headers += guard.headers

    async def _admit(self, call: Call, exchange: Exchange) -> KeptAnswer | None:
        """The kept answer, if there is one, within the limits of key and tenant. Raises what admission raises."""
        path, progress, tenant, use = self._path, call.progress, call.key.tenant, call.use
        kept = path.cache.recall(tenant, use)
        if kept is None and use.max_age_s is not None:
            kept = await path.cache.find(tenant, use)
        looks = kept is None and use.read and use.max_age_s is None
        prompt_tokens, completion_tokens = (0, 0)
        if kept is None:
            prompt_tokens, completion_tokens = estimate_tokens(call.request, call.body, call.card)
            progress.estimated_tokens = prompt_tokens + completion_tokens
        admission = progress.admission = await path.admission.admit(
            call.key,
            call.card,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cache_digest=use.digest if looks else None,
        )
        exchange.headers += admission.headers
        return kept if admission.cached is None else path.cache.open(tenant, use, admission.cached)

    async def _answer_anew(self, call: Call, exchange: Exchange) -> None:
        """By the answer to a question that is alike, by one that is being generated, or by an engine."""
        path, key, progress = self._path, call.key, call.progress
        progress.cache = "miss" if call.use.read else "bypass"
        if key.semantic_cache and call.use.read:
            call.use, similar = await path.semantic.find(key.tenant, call.request, call.body, call.card, call.use)
            if similar is not None:
                progress.cache = "semantic"
                await replay(exchange, similar.answer, result=b"semantic", more=similar.headers)
                return
        if key.capture is not None:
            exchange = path.captures.watch(exchange, key, call.request)
        body, generate = call.body, partial(path.generation.generate, call)
        leads = progress.deadline is NO_DEADLINE
        progress.cache = await path.flights.answer(exchange, key.tenant, call.use, generate, leads=leads)
        if isinstance(exchange, CopyingExchange) and progress.cache != "collapsed":
            path.captures.take(
                exchange,
                key,
                self._route,
                body,
                model=call.card.name,
                usage=progress.usage,
                first_byte_s=progress.first_byte_s,
            )

    def _check_task(self, card: ModelCard) -> None:
        if card.task not in self._route.tasks:
            raise InvalidValue(f"The model `{card.name}` cannot be used at {self._route.path}.", param="model")

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
