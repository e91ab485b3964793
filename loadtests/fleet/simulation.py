"""Gateways, engines and users together, until a number of requests is answered."""

import asyncio
import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from cli.benchmark.summary import percentile
from contracts.settings import EngineSettings, GatewaySettings, RoutingPolicyName
from loadtests.fleet.engine import EngineSpeed, Job, SimulatedEngine
from loadtests.fleet.gateway import LeasesInMemory, SimulatedGateway
from loadtests.fleet.users import Conversation, Crowd, Habits
from tests.fake_engine.prefix_cache import BLOCK_TOKENS

RENEWAL_S = EngineSettings.model_fields["lease_ttl_s"].default / 3
"""Between two renewals of one engine's lease, as agents make them; each has its own beat."""
LOOK_S = GatewaySettings.model_fields["lease_refresh_s"].default
"""Between two looks of one gateway at all leases."""
WARM_SHARE = 0.2
"""First part of the requests, which finds cold caches and is not counted."""


@dataclass(frozen=True, slots=True)
class Scenario:
    policy: RoutingPolicyName
    engines: int
    gateways: int
    requests: int
    requests_per_s: float = 0.0
    engines_known: int | None = None
    speed: EngineSpeed = field(default_factory=EngineSpeed)
    habits: Habits = field(default_factory=Habits)
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """Simulated seconds, and the seconds that the simulation itself took."""

    first_tokens_s: list[float] = field(default_factory=list)
    hit_rate: float = 0.0
    busiest_to_mean: float = 0.0
    simulated_s: float = 0.0
    took_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def figures(self) -> dict[str, Any]:
        return {
            "ttft_p50_ms": _rounded(percentile(self.first_tokens_s, 50) * 1000),
            "ttft_p99_ms": _rounded(percentile(self.first_tokens_s, 99) * 1000),
            "hit_rate": _rounded(self.hit_rate),
            "busiest_to_mean": _rounded(self.busiest_to_mean),
            "took_s": _rounded(self.took_s),
        }


class Simulation:
    def __init__(self, scenario: Scenario, runner: asyncio.Runner) -> None:
        self.environment = simpy.Environment()
        self.scenario = scenario
        self.crowd = Crowd(scenario.habits, scenario.seed)
        self.engines = [SimulatedEngine(self.environment, at, scenario.speed) for at in range(scenario.engines)]
        self._by_name = {engine.name: engine for engine in self.engines}
        self._leases = {engine.name: engine.lease() for engine in self.engines}
        self.gateways = [
            SimulatedGateway(
                self.environment,
                scenario.policy,
                LeasesInMemory(self._leases),
                runner,
                name=f"gateway-{number}",
                known=scenario.engines_known,
            )
            for number in range(scenario.gateways)
        ]
        self.outcome = Outcome()
        self.asked = self._answered = 0
        self._warm_from = int(WARM_SHARE * scenario.requests)
        self._counts_when_warm = (0, 0)
        self._all_answered = self.environment.event()

    def run(self, source: Callable[["Simulation"], Generator[simpy.Event, object, None]]) -> Outcome:
        began = time.perf_counter()
        for engine in self.engines:
            self.environment.process(self._renew(engine))
        for gateway in self.gateways:
            self.environment.process(self._look(gateway))
        self.environment.process(source(self))
        self.environment.run(until=self._all_answered)
        outcome = self.outcome
        outcome.took_s = time.perf_counter() - began
        outcome.simulated_s = self.environment.now
        hits, queries = (now - then for now, then in zip(self._cache_counts(), self._counts_when_warm, strict=True))
        outcome.hit_rate = hits / queries
        requests = [engine.requests for engine in self.engines]
        outcome.busiest_to_mean = max(requests) * len(requests) / sum(requests)
        return outcome

    def ask(
        self, talk: Conversation, answer: Sequence[int], gateway: SimulatedGateway
    ) -> Generator[simpy.Event, object, None]:
        """One turn, through a gateway, until its answer is there."""
        environment, outcome = self.environment, self.outcome
        number, began = self.asked, environment.now
        self.asked += 1
        if number == self._warm_from:
            self._counts_when_warm = self._cache_counts()
        prompt_tokens, output_tokens = len(talk.blocks) * BLOCK_TOKENS, len(answer) * BLOCK_TOKENS
        tokens = prompt_tokens + output_tokens
        picked = yield from gateway.enter(talk.request(), tenant=talk.tenant, tokens=tokens)
        job = Job(tuple(talk.blocks), prompt_tokens, output_tokens, environment.event(), environment.event())
        self._by_name[picked.lease.engine].ask(job)
        yield job.first_token
        if number >= self._warm_from:
            outcome.first_tokens_s.append(environment.now - began)
        yield job.done
        gateway.leave(picked)
        outcome.prompt_tokens += prompt_tokens
        outcome.output_tokens += output_tokens
        self._answered += 1
        if self._answered == self.scenario.requests:
            self._all_answered.succeed()

    def _cache_counts(self) -> tuple[int, int]:
        caches = [engine.cache for engine in self.engines]
        return sum(cache.hits for cache in caches), sum(cache.queries for cache in caches)

    def wants_more(self) -> bool:
        return self.asked < self.scenario.requests

    def _renew(self, engine: SimulatedEngine) -> Generator[simpy.Event, object, None]:
        yield self.environment.timeout(RENEWAL_S * self.crowd.random.random())
        while True:
            self._leases[engine.name] = engine.lease()
            yield self.environment.timeout(RENEWAL_S)

    def _look(self, gateway: SimulatedGateway) -> Generator[simpy.Event, object, None]:
        gateway.look_at_leases()
        yield self.environment.timeout(LOOK_S * self.crowd.random.random())
        while True:
            gateway.look_at_leases()
            yield self.environment.timeout(LOOK_S)


def conversations(simulation: Simulation) -> Generator[simpy.Event, object, None]:
    """New users come at random (Poisson), and each request takes any gateway, as a load balancer deals them out."""
    scenario, crowd, environment = simulation.scenario, simulation.crowd, simulation.environment
    users_per_s = scenario.requests_per_s / crowd.habits.mean_turns
    while simulation.wants_more():
        environment.process(_talk(simulation))
        yield environment.timeout(crowd.random.expovariate(users_per_s))


def _talk(simulation: Simulation) -> Generator[simpy.Event, object, None]:
    crowd, chance = simulation.crowd, simulation.crowd.random
    talk = crowd.conversation()
    for _ in range(crowd.turns()):
        if not simulation.wants_more():
            return
        crowd.ask(talk)
        answer = crowd.answer_blocks()
        yield from simulation.ask(talk, answer, chance.choice(simulation.gateways))
        talk.say("assistant", answer)
        yield simulation.environment.timeout(chance.expovariate(1 / crowd.habits.think_s))


def simulate(
    scenario: Scenario, source: Callable[[Simulation], Generator[simpy.Event, object, None]] = conversations
) -> Outcome:
    random.seed(scenario.seed)  # the policies' own chance
    with asyncio.Runner() as runner:
        return Simulation(scenario, runner).run(source)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
