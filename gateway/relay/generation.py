"""From a request that must be generated to an engine's answer."""

import asyncio
from dataclasses import dataclass

import structlog

from contracts.errors import EngineError, EnginesFull, EngineTimeout, NoEngineAvailable
from contracts.openai import PoolingRequest
from gateway.cache.kept import KeptAnswer
from gateway.capture.marks import AnswerMarks
from gateway.guardrails.answers import AnswerGuard
from gateway.queueing.queue import EngineQueue
from gateway.relay import engine_errors
from gateway.relay.answer import pass_on
from gateway.relay.answering import Answering
from gateway.relay.call import Call
from gateway.relay.decode import without_priority
from gateway.relay.exchange import REQUEST_ID_HEADER, ClientDisconnected, Exchange, HeaderList
from gateway.relay.forward import Forwarder
from gateway.relay.upstream import UpstreamError
from gateway.routing.fallbacks import Fallbacks
from gateway.routing.request import RoutingRequest
from gateway.routing.shadow import Shadows

ENGINE_FAILURES = (NoEngineAvailable, EngineError, EngineTimeout)
CANDIDATE_FAILURES = (*ENGINE_FAILURES, EnginesFull)


@dataclass(frozen=True, slots=True)
class Generation:
    """Relays an engine's answer once there is a place for it, of the model or of one that stands in for it."""

    queue: EngineQueue
    fallbacks: Fallbacks
    shadows: Shadows
    forwarder: Forwarder
    marks: AnswerMarks
    max_kept_bytes: int

    async def generate(self, call: Call, exchange: Exchange) -> KeptAnswer | None:
        """What may be kept of the answer. Ends all work at once when the client leaves (ClientDisconnected).

        Raises what the queue raises, NoEngineAvailable, EngineError, EngineTimeout, and engines' refusals.
        """
        task = asyncio.current_task()
        assert task is not None
        gone = False

        def leave() -> None:
            nonlocal gone
            if not exchange.finished:
                gone = True
                task.cancel()

        exchange.watch(leave)
        if call.priority is not None:
            call.body = without_priority(call.body)
        trial, path = call.progress.trial, call.route.engine_path
        try:
            self.shadows.copy(call.request, call.body, model=call.card.name, path=path, trial=trial)
            return await self._first_to_answer(call, exchange)
        except asyncio.CancelledError:
            if gone and task.uncancel() == 0:
                raise ClientDisconnected from None
            raise
        finally:
            exchange.watch(None)

    async def _first_to_answer(self, call: Call, exchange: Exchange) -> KeptAnswer | None:
        """The model, or the first of its fallbacks that gives an answer.

        A release's candidate is replaced also where its engines are full, which the stable model's may not be.
        """
        trial = call.progress.trial
        replaced = CANDIDATE_FAILURES if trial is not None and trial.is_candidate else ENGINE_FAILURES
        for fallback in self.fallbacks.of(call.card, call.key, call.request, trial):
            try:
                return await self._in_turn(call, exchange, patiently=False)
            except replaced:
                if exchange.status is not None:
                    raise
            call.progress.failed = True
            self.fallbacks.note(call.card, fallback)
            call.fall_back_to(fallback, exchange)
        return await self._in_turn(call, exchange, patiently=True)

    async def _in_turn(self, call: Call, exchange: Exchange, *, patiently: bool) -> KeptAnswer | None:
        progress = call.progress
        place = self.queue.place(
            call.card,
            tenant=call.key.tenant,
            tokens=progress.estimated_tokens,
            priority=call.priority or 0,
            deadline=progress.deadline,
        )
        async with place, progress.deadline.enforced():
            kept = await self._relay(call, exchange, patiently=patiently)
            place.used_tokens = progress.usage.total_tokens or None
            return kept

    async def _relay(self, call: Call, exchange: Exchange, *, patiently: bool) -> KeptAnswer | None:
        answering = Answering(
            self.forwarder,
            call.route,
            call.card,
            RoutingRequest(call.card.name, call.request, call.session),
            call.request,
            call.body,
            self._engine_headers(call, exchange),
            patiently=patiently,
            guard=_answer_guard(call),
        )
        try:
            response = await answering.begin()
            if response.status != 200:
                raw = await response.read(engine_errors.MAX_ERROR_BYTES)
                raise engine_errors.translate(response.status, raw, prompt_field=call.route.prompt_field)
            max_copy_bytes = self.max_kept_bytes if call.use.write else 0
            return await pass_on(exchange, call.progress, response, answering, max_copy_bytes=max_copy_bytes)
        except UpstreamError as error:
            structlog.get_logger(__name__).warning("answer broke off", reason=type(error).__name__)
            raise EngineError("The engine failed in the middle of its answer.") from None
        finally:
            answering.end()
            if answering.guard is not None:
                call.progress.guarded += answering.guard.acts()
            if answering.engine is not None:
                call.progress.engine = answering.engine.lease.engine

    def _engine_headers(self, call: Call, exchange: Exchange) -> HeaderList:
        """The client's own headers end here; what goes on is the trace context and the request id, marked."""
        request_id = self.marks.mark(exchange.request_id, call.key.tenant, call.card.name)
        return [
            (b"content-type", b"application/json"),
            (REQUEST_ID_HEADER, request_id.encode()),
            (b"traceparent", call.progress.trace.traceparent),
        ]


def _answer_guard(call: Call) -> AnswerGuard | None:
    """None where the key's policy says nothing of answers, or the answer holds no text."""
    if call.guards is None or not call.guards.reads_output or isinstance(call.request, PoolingRequest):
        return None
    return AnswerGuard(call.guards, call.request)
