"""One answer, by as many engines as it takes."""

from dataclasses import dataclass, field

from contracts.models import ModelCard
from contracts.openai import DataPathRequest, PoolingRequest
from gateway.guardrails.answers import AnswerGuard, GuardedEvents
from gateway.relay.continuation import ContinuedEvents, continuation_request
from gateway.relay.decode import ask_engine_for
from gateway.relay.exchange import HeaderList
from gateway.relay.forward import Forwarder, Reply
from gateway.relay.route import CHAT_COMPLETIONS, COMPLETIONS, DataPathRoute
from gateway.relay.sse import EventFilter
from gateway.relay.transcript import Transcript, new_transcript
from gateway.relay.upstream import StreamBroken, UpstreamError, UpstreamResponse
from gateway.routing.engine import Engine
from gateway.routing.request import RoutingRequest

MAX_FAILOVERS = 3
Events = EventFilter | ContinuedEvents | GuardedEvents


@dataclass(slots=True)
class Answering:
    """Asks an engine, and another one when that fails in the middle of a stream. To be ended by the caller."""

    forwarder: Forwarder
    route: DataPathRoute
    card: ModelCard
    routing: RoutingRequest
    request: DataPathRequest
    body: bytes
    headers: HeaderList
    patiently: bool
    guard: AnswerGuard | None = None
    _transcript: Transcript | None = None
    _reply: Reply | None = None
    _broken: list[Engine] = field(default_factory=list)

    @property
    def engine(self) -> Engine | None:
        return None if self._reply is None else self._reply.engine

    async def begin(self) -> UpstreamResponse:
        """The head of the first engine's answer. Raises NoEngineAvailable, EngineError, EngineTimeout."""
        self._transcript = new_transcript(self.request, self.body)
        return await self._ask(self.route, self._as_sent())

    def events(self) -> Events:
        return self._guarded(EventFilter(hide_usage=self._hide_usage, transcript=self._transcript))

    async def go_on(self, error: UpstreamError) -> tuple[UpstreamResponse | None, Events]:
        """After a stream broke off: the answer that goes on with it, if any is left to come, and what reads it.

        Raises the error where nobody can go on, and what `begin` raises.
        """
        assert self._reply is not None
        self._reply.end()
        self.forwarder.note_break(self._reply.engine, self.card, error)
        self._broken.append(self._reply.engine)
        transcript, request = self._transcript, self.request
        if transcript is None or isinstance(request, PoolingRequest):
            raise error
        if not transcript.can_go_on or len(self._broken) > MAX_FAILOVERS:
            raise error
        if not transcript.begun:
            return await self._ask(self.route, self._as_sent()), self.events()
        chat = self.route is CHAT_COMPLETIONS
        events = self._guarded(ContinuedEvents(transcript, chat=chat, hide_usage=self._hide_usage))
        if transcript.finish_reason is not None:
            return None, events
        response = await self._ask(COMPLETIONS, continuation_request(request, transcript, self.card))
        if response.status != 200:
            raise StreamBroken
        return response, events

    def end(self) -> None:
        if self._reply is not None:
            self._reply.end()

    @property
    def _hide_usage(self) -> bool:
        """Whether the gateway asks for the usage of a stream whose client did not."""
        if isinstance(self.request, PoolingRequest) or not self.request.stream:
            return False
        return self.request.stream_options is None or not self.request.stream_options.include_usage

    def _guarded(self, events: EventFilter | ContinuedEvents) -> Events:
        return events if self.guard is None else GuardedEvents(events, self.guard)

    def _as_sent(self) -> bytes:
        return ask_engine_for(self.body, usage=self._hide_usage, token_ids=self._transcript is not None)

    async def _ask(self, route: DataPathRoute, body: bytes) -> UpstreamResponse:
        self._reply = await self.forwarder.forward(
            self.card,
            self.routing,
            route.engine_path,
            self.headers,
            body,
            broken=self._broken,
            patiently=self.patiently,
        )
        return self._reply.response
