"""`flywheel bench` against an engine whose pace is known."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cli.benchmark.load import Answer, Level
from cli.benchmark.plot import plot
from cli.benchmark.summary import percentile, summarise
from tests.cli.conftest import Flywheel
from tests.fake_engine.process import FakeEngineProcess

SVG = "{http://www.w3.org/2000/svg}"


def level(concurrency: int = 2) -> Level:
    answers = [
        Answer(asked_s=0.0, token_times_s=[0.1, 0.2, 0.4], ended_s=0.4, tokens=3),
        Answer(asked_s=0.5, token_times_s=[0.8, 0.9], ended_s=1.0, tokens=6),
        Answer(asked_s=0.5, ended_s=0.6, failure="429: Slow down."),
    ]
    return Level(concurrency, duration_s=2.0, answers=answers)


def test_a_summary_counts_answers_and_leaves_failures_out():
    summary = summarise(level())
    assert (summary["requests"], summary["failures"]) == (3, 1)
    assert summary["failure_reasons"] == {"429: Slow down.": 1}
    assert (summary["output_tokens"], summary["output_tokens_per_s"], summary["requests_per_s"]) == (9, 4.5, 1.0)
    assert summary["time_to_first_token_s"] == {"p50": 0.1, "p90": 0.3, "p99": 0.3}
    assert summary["time_between_tokens_s"] == {"p50": 0.1, "p90": 0.2, "p99": 0.2}
    assert summary["latency_s"]["p50"] == 0.4


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_percentiles_are_values_that_were_measured(percent: int, value: int):
    assert percentile(list(range(10, 0, -1)), percent) == value


def test_the_plot_has_three_panels_with_a_line_for_each_concurrency():
    drawn = ET.fromstring(plot([level(1), level(8)], "a <title>"))
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    lines = [line.get("points", "").split() for line in drawn.iter(f"{SVG}polyline")]
    assert {"a <title>", "Time to first token", "Time between tokens", "Throughput", "8 at once"} <= set(texts)
    assert len(lines) == 6
    assert all(lines)


def test_bench_measures_an_engine(flywheel: Flywheel, fake_engine: FakeEngineProcess, tmp_path: Path):
    fake_engine.behaviour(tokens=5, time_to_first_token_s=0.1, time_between_tokens_s=0.05)
    picture = tmp_path / "bench.svg"
    levels = ("--concurrency", "1", "--concurrency", "4", "--requests", "4")
    done = flywheel("bench", "--url", f"{fake_engine.url}/v1", *levels, "--json", "--plot", str(picture))

    one, four = json.loads(done.stdout)["levels"]
    assert one["time_to_first_token_s"]["p50"] >= 0.1
    assert one["time_between_tokens_s"]["p50"] >= 0.05
    assert (one["output_tokens"], one["failures"]) == (20, 0)
    assert len({request["body"]["user"] for request in fake_engine.requests()}) == 8
    assert (four["output_tokens"], four["failures"]) == (20, 0)
    assert one["output_tokens_per_s"] > 0
    assert picture.read_text().startswith("<svg")
    prompts = {request["body"]["messages"][0]["content"] for request in fake_engine.requests()}
    assert len(prompts) == 8


def test_bench_tells_why_there_is_no_answer(flywheel: Flywheel, fake_engine: FakeEngineProcess):
    done = flywheel("bench", "--url", f"{fake_engine.url}/v1", "--model", "unknown", "--requests", "1")
    assert done.returncode == 1
    assert "The model `unknown` does not exist." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_that_is_no_svg_is_refused_before_anything_is_asked(flywheel: Flywheel):
    done = flywheel("bench", "--url", "http://127.0.0.1:9/v1", "--plot", "bench.png")
    assert (done.returncode, "is no SVG file" in done.stderr) == (1, True)
