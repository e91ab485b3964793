"""What is written down of a request once its last byte was sent: metrics, its span, and a line in the log."""

from dataclasses import dataclass, field
from typing import Literal

import structlog
from opentelemetry import trace

from contracts.keys import ApiKey
from contracts.models import ModelCard
from gateway.metrics import Metrics
from gateway.relay.exchange import Exchange
from gateway.relay.route import DataPathRoute
from gateway.relay.sse import Usage

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; it is only written down, never sent."""


@dataclass(slots=True)
class Progress:
    """What is known of a request so far."""

    key: ApiKey | None = None
    card: ModelCard | None = None
    engine: str | None = None
    cache: Literal["hit", "miss", "bypass"] | None = None
    limited: bool = False
    reserved_tokens: int = 0
    usage: Usage = field(default_factory=Usage)
    first_byte_s: float | None = None
    disconnected: bool = False


class Recorder:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger("gateway.access")

    def record(self, route: DataPathRoute, exchange: Exchange, progress: Progress, span: trace.Span) -> None:
        status = CLIENT_CLOSED_REQUEST if progress.disconnected else exchange.status or 500
        duration_s = exchange.elapsed_s()
        self._count(route, progress, status, duration_s)
        self._describe(span, route, exchange, progress, status)
        self._log.info(
            "request",
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
        )

    def _count(self, route: DataPathRoute, progress: Progress, status: int, duration_s: float) -> None:
        metrics, usage = self._metrics, progress.usage
        model = progress.card.name if progress.card else ""
        metrics.requests.labels(route.path, model, str(status)).inc()
        metrics.request_duration.labels(route.path, model).observe(duration_s)
        if progress.cache is not None:
            metrics.cache.labels(progress.cache).inc()
        if progress.limited:
            metrics.limited.inc()
        if progress.disconnected:
            metrics.disconnects.inc()
        if progress.first_byte_s is not None:
            metrics.time_to_first_token.labels(model).observe(progress.first_byte_s)
        if usage.total_tokens:
            metrics.tokens.labels(model, "input").inc(usage.prompt_tokens)
            metrics.tokens.labels(model, "output").inc(usage.completion_tokens or 0)

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
