"""`flywheel plan` beside the fleet simulator, whose time is simulated: no machine is too busy for these tests."""

import asyncio
import json
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import simpy

from cli.benchmark.summary import percentile
from cli.errors import CliError
from cli.planning.profile import Profile
from cli.planning.stepping import Pace, engines_needed, expect
from loadtests.fleet.simulation import Scenario, Simulation, simulate
from loadtests.fleet.users import Conversation, Habits
from tests.cli.conftest import Flywheel
from tests.fake_engine.prefix_cache import BLOCK_TOKENS
from tests.fake_engine.process import FakeEngineProcess

PROMPT_TOKENS = 512
HABITS = Habits(answer_tokens=160)
MODEL = "simulated-model"
Source = Callable[[Simulation], Generator[simpy.Event, object, None]]


def one_request(simulation: Simulation) -> Generator[simpy.Event, object, None]:
    talk = Conversation(tenant="planner")
    talk.say("user", [next(simulation.crowd.numbers) for _ in range(PROMPT_TOKENS // BLOCK_TOKENS)])
    yield from simulation.ask(talk, simulation.crowd.answer_blocks(), simulation.gateways[0])


def closed_loop(concurrency: int) -> Source:
    def work(simulation: Simulation):
        while simulation.wants_more():
            yield from one_request(simulation)

    def source(simulation: Simulation):
        yield simulation.environment.all_of(
            [simulation.environment.process(work(simulation)) for _ in range(concurrency)]
        )

    return source


def poisson(simulation: Simulation) -> Generator[simpy.Event, object, None]:
    while simulation.wants_more():
        simulation.environment.process(one_request(simulation))
        yield simulation.environment.timeout(simulation.crowd.random.expovariate(simulation.scenario.requests_per_s))


def simulated_p99_s(engines: int, requests_per_s: float) -> float:
    scenario = Scenario("round_robin", engines, 1, 4000, requests_per_s=requests_per_s, habits=HABITS)
    return percentile(simulate(scenario, poisson).first_tokens_s, 99)


def level_of(pace: Pace, batch: int) -> dict[str, Any]:
    """A closed loop of requests that begin together: their prompts are one step, and all wait for the way."""
    gap_s = pace.step_s + pace.request_s * batch
    first_s = pace.way_s + gap_s + pace.prompt_s * batch
    took_s = first_s + gap_s * (pace.answer_tokens - 1)
    return {
        "concurrency": batch,
        "requests": 10 * batch,
        "failures": 0,
        "requests_per_s": batch / took_s,
        "output_tokens": 10 * batch * round(pace.answer_tokens),
        "time_to_first_token_s": {"p50": first_s},
        "time_between_tokens_s": {"p50": gap_s},
    }


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The simulated engine, as `flywheel bench --json` tells of a real one."""
    levels = []
    for concurrency in (1, 8, 64):
        requests = 30 * concurrency
        with asyncio.Runner() as runner:
            simulation = Simulation(Scenario("round_robin", 1, 1, requests, habits=HABITS), runner)
            outcome = simulation.run(closed_loop(concurrency))
        gaps_s = sorted(simulation.engines[0].token_gaps_s.elements())
        level = {"concurrency": concurrency, "requests": requests, "failures": 0}
        level |= {"requests_per_s": requests / outcome.simulated_s, "output_tokens": outcome.output_tokens}
        level |= {
            "time_to_first_token_s": {"p50": percentile(outcome.first_tokens_s, 50)},
            "time_between_tokens_s": {"p50": percentile(gaps_s, 50)},
        }
        levels.append(level)
    return {"model": MODEL, "levels": levels}


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_the_time_to_first_token_is_the_simulators_within_a_fifth(measured: dict[str, Any], load: float):
    pace = Pace.of(Profile.model_validate(measured))
    rate = load * pace.most_per_s

    assert expect(pace, 1, rate).first_token_p99_s == pytest.approx(simulated_p99_s(1, rate), rel=0.2)


@pytest.mark.parametrize("promise_s", [0.2, 0.28])
def test_the_engines_are_those_that_the_simulator_needs_within_a_fifth(measured: dict[str, Any], promise_s: float):
    """Random parts of a Poisson process are such processes, so one engine with its part stands for all."""
    pace = Pace.of(Profile.model_validate(measured))
    rate = 60.0

    engines = engines_needed(pace, rate, promise_s).engines

    assert simulated_p99_s(1, rate / (engines * 1.2)) <= promise_s < simulated_p99_s(1, rate / (engines / 1.2))


def test_the_way_to_the_engine_takes_none_of_its_time():
    pace = Pace(step_s=0.02, request_s=0.001, prompt_s=0.03, way_s=0.04, answer_tokens=20.0, capacity=16)

    read = Pace.of(Profile.model_validate({"model": MODEL, "levels": [level_of(pace, batch) for batch in (1, 4, 16)]}))

    assert asdict(read) == pytest.approx(asdict(pace), rel=0.05)
    assert read.most_per_s == pytest.approx(1 / (0.03 + 20 * (0.02 + 0.016) / 16), rel=0.01)


def test_a_rate_that_one_engine_cannot_answer_takes_more(measured: dict[str, Any]):
    pace = Pace.of(Profile.model_validate(measured))

    assert expect(pace, 1, 1.5 * pace.most_per_s).first_token_p99_s == float("inf")
    assert engines_needed(pace, 1.5 * pace.most_per_s, 10.0).engines == 2


def test_a_promise_that_an_idle_engine_misses_is_refused(measured: dict[str, Any]):
    pace = Pace.of(Profile.model_validate(measured))
    with pytest.raises(CliError, match="longer than the 20 ms asked for"):
        engines_needed(pace, 1.0, 0.02)


def test_the_command_tells_engines_memory_and_cost(measured: dict[str, Any], flywheel: Flywheel, tmp_path: Path):
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(measured))
    question = ("plan", "--profile", str(file), "--model", MODEL, "--rps", "60", "--ttft-p99-ms", "400")
    done = flywheel(*question, "--engine-memory-gib", "24", "--engine-price", "1.5", "--json")

    figures = json.loads(done.stdout)
    assert figures["ttft_p99_ms"] <= 400
    assert figures["memory_gib"] == 24 * figures["engines"]
    assert figures["price_per_month"] == 730 * 1.5 * figures["engines"]
    assert f"engines                {figures['engines']}" in flywheel(*question).stdout


def test_what_is_no_profile_is_refused(measured: dict[str, Any], flywheel: Flywheel, tmp_path: Path):
    file = tmp_path / "profile.json"
    question = ("plan", "--profile", str(file), "--model", "other", "--rps", "1", "--ttft-p99-ms", "400")
    assert "cannot be read" in flywheel(*question).stderr

    file.write_text(json.dumps(measured))
    assert f"is a profile of {MODEL}, not of other" in flywheel(*question).stderr

    file.write_text(json.dumps(measured | {"levels": measured["levels"][1:]}))
    done = flywheel(*question)
    assert (done.returncode, "no level with one request at a time" in done.stderr) == (1, True)


def test_what_bench_prints_is_a_profile(flywheel: Flywheel, fake_engine: FakeEngineProcess, tmp_path: Path):
    fake_engine.behaviour(tokens=5, time_to_first_token_s=0.1, time_between_tokens_s=0.05)
    levels = ("--concurrency", "1", "--concurrency", "2", "--requests", "4")
    done = flywheel("bench", "--url", f"{fake_engine.url}/v1", *levels, "--json")
    file = tmp_path / "profile.json"
    file.write_text(done.stdout)

    pace = Pace.of(Profile.read(file))
    assert (pace.answer_tokens, pace.capacity) == (5, 2)
    assert pace.step_s + pace.prompt_s + pace.way_s >= 0.1
