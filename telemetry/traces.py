"""OpenTelemetry traces, exported by OTLP over HTTP where an endpoint is set.

Without an endpoint spans are still made, so that logs carry trace ids and the context travels on.
"""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def configure_traces(service: str, otlp_endpoint: str | None) -> trace.Tracer:
    """`service` is the `service.name` resource attribute, for example `flywheel-gateway`.

    Spans are exported by a thread of their own, in batches, and flushed when the process exits.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if otlp_endpoint is not None:
        exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    return provider.get_tracer(service)
