"""Sends a request to an engine, and to another one if that fails before anything was answered."""

from collections.abc import Sequence

import structlog

from contracts.errors import ApiError, EngineError, EngineTimeout, NoEngineAvailable
from contracts.models import ModelCard
from gateway.metrics import Metrics
from gateway.relay import engine_errors
from gateway.relay.upstream import (
    ConnectFailed,
    HeaderList,
    TooManyConnections,
    UpstreamError,
    UpstreamResponse,
    UpstreamTimeout,
)
from gateway.routing.engine import Engine
from gateway.routing.fleet import Fleet
from gateway.routing.request import RoutingRequest
from gateway.routing.retries import RetryBudget

MAX_ATTEMPTS = 3
NOT_LOADED_HERE = 404
"""vLLM's status for an adapter that it has not loaded, or no longer."""


class Reply:
    """An engine's answer whose head has come. It counts as in flight there until its end."""

    def __init__(self, engine: Engine, response: UpstreamResponse) -> None:
        self.engine = engine
        self.response = response
        self._ended = False

    def end(self) -> None:
        """Tells the engine to stop generating where the answer was not read to its end."""
        if not self._ended:
            self._ended = True
            self.response.abort()
            self.engine.occupancy.end()


class Forwarder:
    """Picks an engine and gets the head of its answer.

    Another engine is tried, up to `MAX_ATTEMPTS` in all and within the retry budget, as long as the client has seen
    nothing: when an engine cannot be reached, breaks off, or says that it failed. An engine that has lost the adapter
    is no failure; where no other one has it, one is waited for.
    Raises NoEngineAvailable, EngineError, EngineTimeout.
    """

    def __init__(self, fleet: Fleet, metrics: Metrics) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._retries = RetryBudget()
        self._log = structlog.get_logger(__name__)

    async def forward(
        self,
        card: ModelCard,
        routing: RoutingRequest,
        path: str,
        headers: HeaderList,
        body: bytes,
        *,
        broken: Sequence[Engine] = (),
        patiently: bool = True,
    ) -> Reply:
        """`broken` are engines that failed in the middle of this answer. The caller ends the reply.

        Unless `patiently`, an engine that is about to start is not waited for.
        """
        tried: list[Engine] = [*broken]
        failure: ApiError | None = EngineError("The engine failed in the middle of its answer.") if broken else None
        self._fleet.note_use(card)
        if not broken:
            self._retries.note_request()
        while len(tried) < MAX_ATTEMPTS + len(broken):
            engine = self._fleet.pick(routing, excluding=tried)
            if failure is not None and (engine is None or (len(tried) > len(broken) and not self._may_retry())):
                raise failure
            if engine is None:
                engine = await self._fleet.wait_for(card, routing, patiently=patiently)
            tried.append(engine)
            engine.occupancy.begin()
            try:
                response = await engine.upstream.post(path, headers, body)
            except UpstreamError as error:
                engine.occupancy.end()
                failure = self._note_failure(engine, card, error)
                continue
            except BaseException:
                engine.occupancy.end()
                raise
            if response.status < 500:
                engine.health.succeeded()
                if response.status != NOT_LOADED_HERE:
                    return Reply(engine, response)
            response.abort()
            engine.occupancy.end()
            if response.status >= 500:
                engine.health.failed()
                failure = engine_errors.translate(response.status, b"", prompt_field="")
                continue
            self._fleet.note_lost(engine, card)
        raise failure or NoEngineAvailable(f"The model `{card.name}` is not loaded at the moment.", retry_after_s=1)

    def note_break(self, engine: Engine, card: ModelCard, error: UpstreamError) -> None:
        """An engine failed in the middle of its answer."""
        self._note_failure(engine, card, error)

    def _may_retry(self) -> bool:
        allowed = self._retries.take()
        self._metrics.retries.labels("begun" if allowed else "over_budget").inc()
        return allowed

    def _note_failure(
        self, engine: Engine, card: ModelCard, error: UpstreamError
    ) -> EngineError | EngineTimeout | NoEngineAvailable:
        self._metrics.engine_failures.labels(self._metrics.label_of(card.name)).inc()
        self._log.warning("engine failed", engine=engine.lease.engine, reason=type(error).__name__)
        if isinstance(error, TooManyConnections):
            return NoEngineAvailable("The engines are busy. Try again shortly.", retry_after_s=1)
        engine.health.failed(unreachable=isinstance(error, ConnectFailed))
        self._fleet.look_soon()
        if isinstance(error, UpstreamTimeout):
            return EngineTimeout("The engine did not answer in time.")
        return EngineError("The engine failed to answer the request.")
