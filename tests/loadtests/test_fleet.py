"""The fleet simulator: its engines keep time, and what it says of policies has the shape that it should have."""

import json
import subprocess
import sys

import pytest
import simpy

from loadtests.fleet.engine import EngineSpeed, Job, SimulatedEngine
from loadtests.fleet.growth import cost_of
from loadtests.fleet.published import throughput
from loadtests.fleet.simulation import Outcome, Scenario, simulate
from loadtests.fleet.users import Habits
from tests.fake_engine.prefix_cache import BLOCK_TOKENS

SPEED = EngineSpeed(
    step_s=0.01,
    step_s_per_request=0.001,
    prefill_s_per_token=0.0001,
    prefill_tokens_a_step=100,
    capacity=2,
    kv_cache_tokens=1600,
)


class Served:
    """When tokens came, of one request."""

    def __init__(self, environment: simpy.Environment, engine: SimulatedEngine, at: float, job: Job) -> None:
        self.first_s = self.done_s = 0.0
        self._environment, self._engine = environment, engine
        environment.process(self._ask(at, job))

    def _ask(self, at: float, job: Job):
        yield self._environment.timeout(at)
        self._engine.ask(job)
        yield job.first_token
        self.first_s = self._environment.now
        yield job.done
        self.done_s = self._environment.now


def served(*requests: tuple[float, list[int], int], speed: EngineSpeed = SPEED) -> list[Served]:
    """Requests are (when, blocks of the prompt, tokens of the answer)."""
    environment = simpy.Environment()
    engine = SimulatedEngine(environment, 0, speed)
    found = [
        Served(
            environment,
            engine,
            at,
            Job(blocks, len(blocks) * BLOCK_TOKENS, tokens, environment.event(), environment.event()),
        )
        for at, blocks, tokens in requests
    ]
    environment.run()
    return found


def test_a_prompt_is_computed_in_pieces_and_then_each_step_gives_a_token():
    (alone,) = served((0.0, list(range(10)), 5))  # 160 tokens: two steps, and four more tokens

    assert alone.first_s == pytest.approx(2 * 0.01 + 160 * 0.0001)
    assert alone.done_s == pytest.approx(alone.first_s + 4 * 0.011)


def test_what_the_cache_has_is_not_computed_again():
    first, second = served((0.0, [1, 2, 3, 4], 1), (1.0, [1, 2, 3, 5], 1))

    assert first.first_s == pytest.approx(0.01 + 64 * 0.0001)
    assert second.first_s == pytest.approx(1 + 0.01 + 16 * 0.0001)


def test_requests_share_steps_and_the_third_waits_for_a_place():
    one, two, three = served((0.0, [1], 11), (0.0, [2], 11), (0.0, [3], 1))

    assert one.first_s == two.first_s == pytest.approx(0.01 + 32 * 0.0001)
    assert one.done_s == pytest.approx(one.first_s + 10 * 0.012)
    assert three.first_s == pytest.approx(one.done_s + 0.01 + 16 * 0.0001)


def test_a_request_that_comes_in_a_step_begins_with_the_next():
    one, two = served((0.0, [1], 101), (0.02, [2], 1))

    steps_end = one.first_s + 0.011  # the step that runs at 0.02 s
    assert steps_end > 0.02
    assert two.first_s == pytest.approx(steps_end + 0.011 + 16 * 0.0001)
    assert one.done_s == pytest.approx(one.first_s + 99 * 0.011 + 0.011 + 16 * 0.0001)


def outcome(policy: str, *, engines: int = 8, gateways: int = 2, **fields: object) -> Outcome:
    scenario = {"requests": 800, "requests_per_s": 5.0 * engines, "habits": Habits(system_prompts=32)} | fields
    return simulate(Scenario(policy, engines, gateways, **scenario))


def test_prefix_aware_routing_finds_more_in_caches_and_answers_sooner():
    plain, aware = outcome("round_robin").figures(), outcome("prefix_aware").figures()

    assert aware["hit_rate"] > 1.15 * plain["hit_rate"]
    assert aware["ttft_p50_ms"] < 0.85 * plain["ttft_p50_ms"]
    assert plain["busiest_to_mean"] < 1.05 < 1.5 > aware["busiest_to_mean"]


def test_the_same_seed_gives_the_same_figures():
    one, two = (outcome("prefix_aware", requests=300).figures() | {"took_s": 0} for _ in range(2))

    assert one == two


def test_more_than_the_engines_hold_waits_in_the_gateways_queue():
    narrow = EngineSpeed(capacity=1)
    figures = outcome("least_loaded", engines=2, gateways=1, requests=200, requests_per_s=40.0, speed=narrow).figures()

    assert figures["ttft_p99_ms"] > 1000


def test_the_published_comparison_keeps_its_shape():
    """SGLang v0.4: up to 1.9 times the throughput, 3.8 times the hit rate."""
    plain_per_s, plain = throughput("round_robin", 800)
    aware_per_s, aware = throughput("prefix_aware", 800)

    assert 1.3 < aware_per_s / plain_per_s < 3
    assert aware.hit_rate > 2 * plain.hit_rate


def test_a_gateways_memory_grows_with_the_engines_that_it_knows():
    small, big = cost_of(10, ("round_robin",), 20), cost_of(200, ("round_robin",), 20)

    assert big["memory_idle_mib"] > 5 * small["memory_idle_mib"]
    assert big["memory_idle_mib"] < 0.02 * 200


def test_the_command_prints_one_line_of_json():
    command = [sys.executable, "-m", "loadtests.fleet", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    figures = json.loads(done.stdout)
    assert [run["engines"] for run in figures["engines"]] == [2, 8]
    assert [run["gateways"] for run in figures["gateways"]] == [1, 4]
    assert [cost["engines"] for cost in figures["growth"]] == [10, 100]
    assert figures["published"]["hit_rate_ratio"] > 1
