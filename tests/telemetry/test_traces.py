import gzip
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import ROOT, python

PROGRAM = """
from telemetry.traces import configure_traces
tracer = configure_traces("flywheel-test", {endpoint!r})
with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
    pass
"""


class Collector(HTTPServer):
    """Just enough of an OTLP/HTTP collector."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(endpoint: str | None) -> None:
    subprocess.run(python("-c", PROGRAM.format(endpoint=endpoint)), cwd=ROOT, check=True, timeout=20)


@pytest.mark.parametrize("ending", ["", "/"])
def test_spans_reach_the_collector_when_the_process_ends(collector: Collector, ending: str) -> None:
    run(f"http://127.0.0.1:{collector.server_port}/otlp{ending}")
    ((path, request),) = collector.received
    assert path == "/otlp/v1/traces"
    (resource_spans,) = request.resource_spans
    attributes = {attribute.key: attribute.value.string_value for attribute in resource_spans.resource.attributes}
    assert attributes["service.name"] == "flywheel-test"
    spans = {span.name: span for span in resource_spans.scope_spans[0].spans}
    assert spans["inner"].parent_span_id == spans["outer"].span_id


def test_without_an_endpoint_nothing_is_sent(collector: Collector) -> None:
    run(None)
    assert collector.received == []
