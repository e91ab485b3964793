"""Copies of requests for a model that is only watched; what it answers is read and dropped."""

import asyncio
import random
import time
from dataclasses import replace

import structlog

from contracts.openai import DataPathRequest
from gateway.background import Background
from gateway.metrics import Metrics
from gateway.relay.decode import rename_model
from gateway.relay.forward import NOT_LOADED_HERE
from gateway.relay.sse import ENGINE_ERROR
from gateway.relay.trials import TrialCounts
from gateway.relay.upstream import UpstreamError
from gateway.routing.aliases import Trial
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

    def __init__(
        self, traffic: Traffic, fleet: Fleet, background: Background, metrics: Metrics, trials: TrialCounts
    ) -> None:
        self._traffic = traffic
        self._trials = trials
        self._fleet = fleet
        self._background = background
        self._metrics = metrics
        self._in_flight = 0
        self._log = structlog.get_logger(__name__)

    def copy(self, request: DataPathRequest, body: bytes, *, model: str, path: str, trial: Trial | None = None) -> None:
        """Copies the request if its turn has come. `model` is the one that answers.

        What a copy for a release's candidate comes to is counted as the candidate's; a dropped one is not.
        """
        streamed = bool(getattr(request, "stream", None))
        if trial is not None and random.random() < trial.copied_share:  # noqa: S311 (no secret)
            self._start(trial.candidate, path, body, replace(trial, arm="candidate"), streamed=streamed)
        shadow = self._traffic.shadow_of(request.model, model)
        if shadow is not None:
            self._start(shadow, path, body, streamed=streamed)

    def _start(self, shadow: str, path: str, body: bytes, trial: Trial | None = None, *, streamed: bool) -> None:
        if self._in_flight >= MOST_IN_FLIGHT:
            self._count(shadow, "dropped")
            return
        self._in_flight += 1
        self._background.run_forever(self._send(shadow, path, body, trial, streamed=streamed))

    async def _send(self, model: str, path: str, body: bytes, trial: Trial | None, *, streamed: bool) -> None:
        try:
            engine = self._engine_with_room(model)
            if engine is None:
                self._count(model, "dropped")
                return
            async with asyncio.timeout(TIMEOUT_S):
                self._count(model, await self._ask(engine, path, rename_model(body, model), trial, streamed=streamed))
        except (UpstreamError, TimeoutError) as error:
            self._count(model, "failed")
            if trial is not None:
                self._trials.note_failure(trial)
            self._log.info("shadow failed", model=model, reason=type(error).__name__)
        finally:
            self._in_flight -= 1

    async def _ask(self, engine: Engine, path: str, body: bytes, trial: Trial | None, *, streamed: bool) -> str:
        engine.occupancy.begin()
        began_at, first_token_s = time.perf_counter(), None
        try:
            response = await engine.upstream.post(path, [(b"content-type", b"application/json")], body)
            failed = response.status >= 500 or response.status == NOT_LOADED_HERE
            try:
                while chunk := await response.next_chunk():
                    if first_token_s is None and streamed:
                        first_token_s = time.perf_counter() - began_at
                    failed = failed or chunk.startswith(ENGINE_ERROR)
            finally:
                response.abort()
        finally:
            engine.occupancy.end()
        if trial is not None and failed:
            self._trials.note_failure(trial)
        elif trial is not None and response.status == 200:
            took_s = time.perf_counter() - began_at
            self._trials.note_answer(trial, first_token_s=first_token_s, duration_s=took_s, completion_tokens=0)
        return "answered" if response.status == 200 else "refused"

    def _engine_with_room(self, model: str) -> Engine | None:
        engines = [engine for engine in self._fleet.serving(model) if engine.health.fit and engine.occupancy.free() > 0]
        return min(engines, key=Engine.load, default=None)

    def _count(self, model: str, result: str) -> None:
        self._metrics.shadows.labels(self._metrics.label_of(model), result).inc()
