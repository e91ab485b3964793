"""Each test runs a program of its own, because logging is set up once per process."""

import json
import subprocess
from typing import Any

from jsonschema import Draft202012Validator

from tests.processes import ROOT, python


def logged_by(program: str, level: str = "INFO") -> list[dict[str, Any]]:
    setup = f"from telemetry.logs import configure_logs; configure_logs('flywheel-test', {level!r})\n"
    run = subprocess.run(python("-c", setup + program), cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == ""
    return [json.loads(line) for line in run.stderr.splitlines()]


def test_a_line_is_one_json_object_with_its_service_and_fields() -> None:
    (line,) = logged_by("import structlog; structlog.get_logger('relay').info('relayed', tokens=3)")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "relayed", "tokens": 3, "level": "info", "logger": "relay", "service": "flywheel-test"}


def test_the_standard_librarys_loggers_take_the_same_way() -> None:
    (line,) = logged_by("import logging; logging.getLogger('uvicorn').warning('port %d', 8, extra={'port': 8})")
    assert (line["event"], line["level"], line["service"], line["port"]) == ("port 8", "warning", "flywheel-test", 8)


def test_an_exception_is_part_of_its_line() -> None:
    (line,) = logged_by("import logging\ntry: 1 / 0\nexcept ZeroDivisionError: logging.exception('failed')")
    assert "ZeroDivisionError" in line["exception"]


def test_what_is_below_the_level_is_left_out() -> None:
    program = "import structlog, logging; structlog.get_logger().info('a'); logging.info('b'); logging.error('c')"
    assert [line["event"] for line in logged_by(program, level="ERROR")] == ["c"]


def test_a_line_within_a_span_carries_its_trace_id() -> None:
    lines = logged_by(
        "import structlog\n"
        "from opentelemetry import trace\n"
        "from telemetry.traces import configure_traces\n"
        "tracer = configure_traces('flywheel-test', None)\n"
        "with tracer.start_as_current_span('work') as span:\n"
        "    structlog.get_logger().info(trace.format_trace_id(span.get_span_context().trace_id))\n"
        "structlog.get_logger().info('outside')\n"
    )
    assert lines[0]["trace_id"] == lines[0]["event"]
    assert len(lines[0]["span_id"]) == 16
    assert "trace_id" not in lines[1]


def test_the_schema_refuses_what_no_service_writes() -> None:
    schema = Draft202012Validator(json.loads((ROOT / "telemetry/log.schema.json").read_text()))
    (line,) = logged_by("import structlog; structlog.get_logger('relay').info('relayed', tokens=3)")
    line["service"] = "flywheel-gateway"
    request = line | {"logger": "gateway.access", "event": "request"}

    assert schema.is_valid(line)
    assert not schema.is_valid(line | {"service": "other"})
    assert not schema.is_valid(line | {"trace_id": "none"})
    assert "'status' is a required property" in {fault.message for fault in schema.iter_errors(request)}
