"""What is written down of a request once its last byte was sent: metrics, its span, and a line in the log."""

from dataclasses import dataclass, field
from functools import lru_cache

from opentelemetry import trace

from contracts.keys import ApiKey
from contracts.models import ModelCard
from gateway.cache.single_flight import CacheResult
from gateway.guardrails.acts import Act
from gateway.limits.admission import Admission, price
from gateway.limits.plan import NANOS
from gateway.metrics import Metrics
from gateway.queueing.deadline import NO_DEADLINE, Deadline
from gateway.relay.access_log import AccessLog
from gateway.relay.exchange import Exchange
from gateway.relay.route import DataPathRoute
from gateway.relay.sse import Usage
from gateway.relay.tracing import RequestTrace
from gateway.relay.trials import TrialCounts
from gateway.routing.aliases import Trial

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; it is only written down, never sent."""
HTTP_OK = 200
GENERATED: frozenset[CacheResult | None] = frozenset({"miss", "bypass"})
MOST_SERIES = 4096
NO_USAGE = Usage()


@dataclass(slots=True)
class Progress:
    """What is known of a request so far."""

    trace: RequestTrace
    key: ApiKey | None = None
    card: ModelCard | None = None
    engine: str | None = None
    cache: CacheResult | None = None
    limited: bool = False
    deadline: Deadline = NO_DEADLINE
    estimated_tokens: int = 0
    admission: Admission | None = None
    usage: Usage = NO_USAGE
    first_byte_s: float | None = None
    disconnected: bool = False
    trial: Trial | None = None
    guarded: list[Act] = field(default_factory=list)
    failed: bool = False
    """The model that was chosen gave no answer, or broke off; another one may have answered in its place."""


class Recorder:
    def __init__(self, metrics: Metrics, log: AccessLog, trials: TrialCounts) -> None:
        self._metrics = metrics
        self._trials = trials
        self._log = log
        # Finding a series by its labels costs more than counting in it.
        remember = lru_cache(MOST_SERIES)
        self._requests = remember(metrics.requests.labels)
        self._durations = remember(metrics.request_duration.labels)
        self._first_bytes = remember(metrics.time_to_first_token.labels)
        self._tokens = remember(metrics.tokens.labels)
        self._cost = remember(metrics.cost.labels)
        self._cache = remember(metrics.cache.labels)

    def record(self, route: DataPathRoute, exchange: Exchange, progress: Progress) -> None:
        status = CLIENT_CLOSED_REQUEST if progress.disconnected else exchange.status or 500
        duration_s = exchange.elapsed_s()
        self._count(route, progress, status, duration_s)
        if progress.trial is not None:
            self._count_in_trial(progress.trial, progress, status, duration_s)
        if progress.trace.span is not None:
            self._describe(progress.trace.span, route, exchange, progress, status)
            progress.trace.span.end()
        self._log.write(
            progress.trace.trace_id,
            request_id=exchange.request_id,
            route=route.path,
            status=status,
            duration_s=round(duration_s, 4),
            model=progress.card.name if progress.card else None,
            key=progress.key.id if progress.key else None,
            cache=progress.cache,
            engine=progress.engine,
            input_tokens=progress.usage.prompt_tokens,
            output_tokens=progress.usage.completion_tokens or 0,
            **({"guardrails": [act._asdict() for act in progress.guarded]} if progress.guarded else {}),
        )

    def _count(self, route: DataPathRoute, progress: Progress, status: int, duration_s: float) -> None:
        metrics, usage = self._metrics, progress.usage
        model = metrics.label_of(progress.card.name) if progress.card else ""
        self._requests(route.path, model, str(status)).inc()
        # Leads from a slow bucket to the trace of one of its requests, if somebody keeps it.
        span = progress.trace.span
        exemplar = {"trace_id": progress.trace.trace_id} if span is not None and span.is_recording() else None
        self._durations(route.path, model).observe(duration_s, exemplar)
        if progress.cache is not None:
            self._cache(progress.cache).inc()
        for act in progress.guarded:
            metrics.guardrails.labels(act.guard, act.stage, act.action).inc()
        if progress.limited:
            metrics.limited.inc()
        if progress.disconnected:
            metrics.disconnects.inc()
        if progress.first_byte_s is not None:
            self._first_bytes(model).observe(progress.first_byte_s, exemplar)
        if usage.total_tokens:
            self._tokens(model, "input").inc(usage.prompt_tokens)
            self._tokens(model, "output").inc(usage.completion_tokens or 0)
            if progress.card is not None and (progress.card.input_price or progress.card.output_price):
                spent = price(progress.card, usage.prompt_tokens, usage.completion_tokens or 0)
                self._cost(model).inc(spent / NANOS)

    def _count_in_trial(self, trial: Trial, progress: Progress, status: int, duration_s: float) -> None:
        """Only what an engine answered, or failed to: no refusals, nothing from the cache, nobody who left early."""
        if progress.failed:
            self._trials.note_failure(trial)
        elif status == HTTP_OK and progress.cache in GENERATED:
            self._trials.note_answer(
                trial,
                first_token_s=progress.first_byte_s,
                duration_s=duration_s,
                completion_tokens=progress.usage.completion_tokens or 0,
            )

    @staticmethod
    def _describe(span: trace.Span, route: DataPathRoute, exchange: Exchange, progress: Progress, status: int) -> None:
        """Names by OpenTelemetry's semantic conventions for generative AI and for HTTP."""
        model = progress.card.name if progress.card else ""
        span.update_name(f"{route.operation} {model}".strip())
        span.set_attributes(
            {
                "gen_ai.operation.name": route.operation,
                "gen_ai.provider.name": "flywheel",
                "gen_ai.request.model": model,
                "gen_ai.usage.input_tokens": progress.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": progress.usage.completion_tokens or 0,
                "http.request.method": "POST",
                "http.route": route.path,
                "http.response.status_code": status,
                "flywheel.request_id": exchange.request_id,
                "flywheel.cache": progress.cache or "",
                "flywheel.engine": progress.engine or "",
            }
        )
        if progress.first_byte_s is not None:
            span.set_attribute("gen_ai.server.time_to_first_token", progress.first_byte_s)
