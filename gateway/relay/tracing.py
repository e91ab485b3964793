"""The trace that a request belongs to (W3C Trace Context), with a span of OpenTelemetry where spans are exported.

A span costs several times what the rest of the telemetry does, so none is made that nobody would see; the trace id is
in the logs and goes on to the engine all the same.
"""

import random
import re
from dataclasses import dataclass

from opentelemetry import propagate, trace

from telemetry.logs import current_trace_id

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NO_TRACE = b"0" * 32


@dataclass(frozen=True, slots=True)
class RequestTrace:
    trace_id: str
    traceparent: bytes
    """The header that goes on to the engine."""
    span: trace.Span | None


class Tracing:
    def __init__(self, tracer: trace.Tracer, *, exported: bool) -> None:
        self._tracer = tracer
        self._exported = exported

    def begin(self, operation: str, headers: dict[bytes, bytes]) -> RequestTrace:
        """Continues the caller's trace, or begins one. Logs of the running task carry its id from here on."""
        begun = self._begin_span(operation, headers) if self._exported else _pass_on(headers.get(b"traceparent"))
        current_trace_id.set(begun.trace_id)
        return begun

    def _begin_span(self, operation: str, headers: dict[bytes, bytes]) -> RequestTrace:
        carrier = {name: headers[name.encode()].decode("latin-1") for name in _CARRIED if name.encode() in headers}
        span = self._tracer.start_span(operation, propagate.extract(carrier), trace.SpanKind.SERVER)
        context = span.get_span_context()
        trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        return RequestTrace(trace_id, f"00-{trace_id}-{span_id}-{context.trace_flags:02x}".encode(), span)


_CARRIED = ("traceparent", "tracestate")


def _pass_on(given: bytes | None) -> RequestTrace:
    if given is not None and (match := _TRACEPARENT.fullmatch(given)) and match[1] != _NO_TRACE:
        return RequestTrace(match[1].decode(), given, None)
    trace_id = f"{random.getrandbits(128) | 1:032x}"
    return RequestTrace(trace_id, f"00-{trace_id}-{random.getrandbits(64) | 1:016x}-00".encode(), None)
