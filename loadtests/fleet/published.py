"""SGLang's comparison of cache-aware routing with round robin, again.

SGLang v0.4 (lmsys.org/blog/2024-12-04-sglang-v0-4, "Cache-Aware Load Balancer") told up to 1.9 times the throughput and
3.8 times the hit rate over 8 workers, where many groups of requests share a long prefix each. Lengths and the number of
groups are the defaults of its benchmark's generated shared prefixes. The size of the caches is not told; here one holds
a quarter of all prefixes, so that the eight together hold each of them and no engine holds all.
"""

from collections.abc import Generator

import simpy

from loadtests.fleet.engine import EngineSpeed
from loadtests.fleet.simulation import Outcome, Scenario, Simulation, simulate
from loadtests.fleet.users import Conversation, Habits
from tests.fake_engine.prefix_cache import BLOCK_TOKENS

ENGINES = 8
GROUPS = 64
PREFIX_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 2048, 128, 256
KV_CACHE_TOKENS = GROUPS * PREFIX_TOKENS // 4
IN_FLIGHT_AN_ENGINE = 32


def throughput(policy: str, requests: int) -> tuple[float, Outcome]:
    """Tokens a second, prompts and answers together, with so many requests in flight all the time."""
    scenario = Scenario(
        policy=policy,
        engines=ENGINES,
        gateways=1,
        requests=requests,
        speed=EngineSpeed(kv_cache_tokens=KV_CACHE_TOKENS),
        habits=Habits(system_prompts=GROUPS, system_tokens=PREFIX_TOKENS, sigma=0.0),
    )
    outcome = simulate(scenario, _always_in_flight)
    return (outcome.prompt_tokens + outcome.output_tokens) / outcome.simulated_s, outcome


def _always_in_flight(simulation: Simulation) -> Generator[simpy.Event, object, None]:
    prefixes = [simulation.crowd.new_blocks(PREFIX_TOKENS) for _ in range(GROUPS)]
    askers = [simulation.environment.process(_ask(simulation, prefixes)) for _ in range(ENGINES * IN_FLIGHT_AN_ENGINE)]
    yield simulation.environment.all_of(askers)


def _ask(simulation: Simulation, prefixes: list[list[int]]) -> Generator[simpy.Event, object, None]:
    while simulation.wants_more():
        group = simulation.crowd.random.randrange(GROUPS)
        talk = Conversation(tenant="benchmark")
        talk.say("system", prefixes[group])
        talk.say("user", simulation.crowd.new_blocks(QUESTION_TOKENS))
        answer = list(range(ANSWER_TOKENS // BLOCK_TOKENS))
        yield from simulation.ask(talk, answer, simulation.gateways[0])
