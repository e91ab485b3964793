"""Copies of requests for a model that is only watched; what it answers is read and dropped."""

import asyncio

import structlog

from contracts.openai import DataPathRequest
from gateway.background import Background
from gateway.metrics import Metrics
from gateway.relay.decode import rename_model
from gateway.relay.upstream import UpstreamError
from gateway.routing.engine import Engine
from gateway.routing.fleet import Fleet
from gateway.routing.traffic import Traffic

MOST_IN_FLIGHT = 16
TIMEOUT_S = 60.0


class Shadows:
    """Sends copies beside the answer: no limit counts them, nothing waits for them, and nobody sees them fail.

    A copy takes a free place at an engine or is dropped, and so are copies beyond `MOST_IN_FLIGHT` of this gateway.
    Costs the client's request the start of a task where it is copied, and a look-up where there are shadows at all.
    """

    def __init__(self, traffic: Traffic, fleet: Fleet, background: Background, metrics: Metrics) -> None:
        self._traffic = traffic
        self._fleet = fleet
        self._background = background
        self._metrics = metrics
        self._in_flight = 0
        self._log = structlog.get_logger(__name__)

    def copy(self, request: DataPathRequest, body: bytes, *, model: str, path: str) -> None:
        """Copies the request if its turn has come. `model` is the one that answers."""
        shadow = self._traffic.shadow_of(request.model, model)
        if shadow is None:
            return
        if self._in_flight >= MOST_IN_FLIGHT:
            self._count(shadow, "dropped")
            return
        self._in_flight += 1
        self._background.run_forever(self._send(shadow, path, body))

    async def _send(self, model: str, path: str, body: bytes) -> None:
        try:
            engine = self._engine_with_room(model)
            if engine is None:
                self._count(model, "dropped")
                return
            async with asyncio.timeout(TIMEOUT_S):
                self._count(model, await self._ask(engine, path, rename_model(body, model)))
        except (UpstreamError, TimeoutError) as error:
            self._count(model, "failed")
            self._log.info("shadow failed", model=model, reason=type(error).__name__)
        finally:
            self._in_flight -= 1

    async def _ask(self, engine: Engine, path: str, body: bytes) -> str:
        engine.occupancy.begin()
        try:
            response = await engine.upstream.post(path, [(b"content-type", b"application/json")], body)
            try:
                while await response.next_chunk():
                    pass
            finally:
                response.abort()
            return "answered" if response.status == 200 else "refused"
        finally:
            engine.occupancy.end()

    def _engine_with_room(self, model: str) -> Engine | None:
        engines = [engine for engine in self._fleet.serving(model) if engine.health.fit and engine.occupancy.free() > 0]
        return min(engines, key=Engine.load, default=None)

    def _count(self, model: str, result: str) -> None:
        self._metrics.shadows.labels(model, result).inc()
