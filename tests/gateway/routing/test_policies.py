"""Which engine each policy chooses."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.openai import CompletionRequest, EmbeddingRequest
from gateway.routing.engine import Engine
from gateway.routing.policies import POLICIES
from gateway.routing.policies.adapter_aware import AdapterAware
from gateway.routing.policies.base import Policy
from gateway.routing.policies.least_loaded import LeastLoaded
from gateway.routing.policies.prefix_aware import PrefixAware
from gateway.routing.policies.round_robin import RoundRobin
from gateway.routing.policies.session_affinity import SessionAffinity
from gateway.routing.request import RoutingRequest
from tests.fake_engine.prefix_cache import PrefixCache
from tests.gateway.routing.conftest import BASE, CAPACITY, chat, engines, occupy

TURN = "word " * 120
SYSTEM_PROMPT = "You are a helpful assistant of the company. " * 40


@given(st.sampled_from(sorted(POLICIES)), st.lists(st.integers(0, 80), min_size=2, max_size=6), st.text(max_size=600))
def test_every_policy_chooses_a_candidate(name: str, loads: list[int], prompt: str):
    candidates = engines(len(loads))
    for engine, load in zip(candidates, loads, strict=True):
        occupy(engine, load)
    policy = POLICIES[name]()

    for session in (None, "session"):
        assert policy.choose(candidates, chat(prompt, session=session)) in candidates


def test_round_robin_takes_turns():
    candidates, policy = engines(3), RoundRobin()

    assert [policy.choose(candidates, chat("hello")) for _ in range(6)] == candidates * 2


def test_least_loaded_takes_the_idlest_and_spreads_over_equals():
    candidates, policy = engines(3), LeastLoaded()
    occupy(candidates[1], 1)

    assert Counter(policy.choose(candidates, chat("hello")) for _ in range(10)) == {candidates[0]: 5, candidates[2]: 5}


@pytest.mark.parametrize("policy", [LeastLoaded(), PrefixAware()])
def test_not_all_gateways_send_to_the_engine_that_looked_idlest(policy: Policy):
    candidates = engines(8)
    for engine in candidates[1:]:
        engine.occupancy.renew(reported=CAPACITY // 2, capacity=CAPACITY, now=0)
    chosen = Counter(policy.choose(candidates, chat(f"{number} {TURN}")) for number in range(400))

    assert 50 < chosen[candidates[0]] < 200


def test_a_session_stays_and_sessions_are_spread():
    candidates = engines(4)
    gateways = [SessionAffinity(), SessionAffinity()]
    chosen = {
        f"session-{number}": {policy.choose(candidates, chat(f"{number}", session=f"session-{number}")).lease.engine}
        for number in range(200)
        for policy in gateways
    }

    assert all(len(places) == 1 for places in chosen.values())
    assert min(Counter(place for places in chosen.values() for place in places).values()) > 30


def test_a_session_leaves_a_full_engine_and_comes_back():
    candidates, policy = engines(2), SessionAffinity()
    home = policy.choose(candidates, chat("hello", session="mine"))
    occupy(home, CAPACITY)
    assert policy.choose(candidates, chat("hello", session="mine")) is not home

    home.occupancy.end()
    assert policy.choose(candidates, chat("hello", session="mine")) is home


def test_an_adapter_keeps_to_one_engine_and_base_models_do_not():
    adapters = tuple(f"ft:{number}" for number in range(20))
    candidates, policy = engines(4, adapters=adapters), AdapterAware()
    homes = {
        name: {policy.choose(candidates, chat(f"{n}", model=name)).lease.engine for n in range(5)} for name in adapters
    }

    assert all(len(places) == 1 for places in homes.values())
    assert len({place for places in homes.values() for place in places}) == 4
    assert len({policy.choose(candidates, chat("hello")).lease.engine for _ in range(8)}) == 4


def test_the_engine_that_has_the_prefix_gets_the_next_turn():
    candidates, policy = engines(4), PrefixAware()
    for user in range(20):
        turns = [SYSTEM_PROMPT, f"{user} {TURN}"]
        first = policy.choose(candidates, chat(*turns))
        for turn in range(5):
            turns += [f"answer {turn} {TURN}", f"question {turn} {TURN}"]
            assert policy.choose(candidates, chat(*turns)) is first


def test_a_prefix_is_worth_some_load_and_not_any():
    candidates, policy = engines(2), PrefixAware()
    home = policy.choose(candidates, chat(SYSTEM_PROMPT, TURN))
    occupy(home, 4)
    assert policy.choose(candidates, chat(SYSTEM_PROMPT, TURN)) is home

    occupy(home, CAPACITY // 2)
    assert policy.choose(candidates, chat(SYSTEM_PROMPT, TURN)) is not home


def test_what_the_engine_has_evicted_no_longer_attracts():
    candidates, policy = engines(2, kv_cache_tokens=1024), PrefixAware()
    home = policy.choose(candidates, chat(SYSTEM_PROMPT, TURN))
    assert home.prefixes.match(chat(SYSTEM_PROMPT, TURN).blocks) > 0
    for number in range(20):
        home.prefixes.remember(chat(f"{number} " + SYSTEM_PROMPT).blocks)

    assert home.prefixes.match(chat(SYSTEM_PROMPT, TURN).blocks) == 0


def test_prompts_without_a_whole_block_go_to_the_least_loaded():
    candidates, policy = engines(2), PrefixAware()
    short = RoutingRequest(BASE, EmbeddingRequest(model=BASE, input="text " * 1000))
    for request in (chat("hello"), short):
        assert {policy.choose(candidates, request) for _ in range(4)} == set(candidates)


@pytest.mark.parametrize("prompt", ["text " * 200, ["text " * 200, "other"], [1] * 2000, [[1] * 2000, [2]], [], ""])
def test_every_kind_of_prompt_has_its_blocks(prompt: object):
    request = CompletionRequest(model=BASE, prompt=prompt)

    assert (len(RoutingRequest(BASE, request).blocks) > 0) == bool(prompt)


def test_gateways_that_never_talk_send_a_new_prompt_to_the_same_engine():
    fleets = [engines(5), engines(5)]
    chosen = [
        [PrefixAware().choose(fleet, chat(f"{number} {SYSTEM_PROMPT}")).lease.engine for number in range(100)]
        for fleet in fleets
    ]

    assert chosen[0] == chosen[1]
    assert min(Counter(chosen[0]).values()) >= 8


class SimulatedFleet:
    """Engines with bounded prefix caches behind gateways that see only their own requests."""

    def __init__(self, policy: str, *, gateways: int, engines_: int = 2, cache_tokens: int = 4500) -> None:
        self.caches = {f"engine-{number}": PrefixCache(cache_tokens) for number in range(engines_)}
        self.gateways: list[tuple[Policy, list[Engine]]] = [
            (POLICIES[policy](), engines(engines_, kv_cache_tokens=cache_tokens)) for _ in range(gateways)
        ]
        self.sent: Counter[str] = Counter()

    def send(self, gateway: int, *turns: str) -> Engine:
        policy, fleet = self.gateways[gateway]
        engine = policy.choose(fleet, chat(*turns))
        self.caches[engine.lease.engine].admit(" ".join(turns).split())
        self.sent[engine.lease.engine] += 1
        return engine

    def hit_rate(self) -> float:
        return sum(cache.hits for cache in self.caches.values()) / sum(c.queries for c in self.caches.values())


def converse(fleet: SimulatedFleet, *, users: int = 20, turns: int = 6) -> float:
    """Interleaved conversations over ten system prompts, ten in flight at any time; returns the hit rate."""
    generator = random.Random(1)
    talks = [[f"{user % 10} {SYSTEM_PROMPT}"] for user in range(users)]
    in_flight: list[Engine] = []
    for turn in range(turns):
        for user in generator.sample(range(users), users):
            talks[user].append(f"user {user} turn {turn} " + "asks something long " * 15)
            engine = fleet.send(generator.randrange(len(fleet.gateways)), *talks[user])
            engine.occupancy.begin()
            in_flight.append(engine)
            if len(in_flight) > 10:
                in_flight.pop(0).occupancy.end()
            talks[user].append(f"answer to {user} in turn {turn} " + "says something long " * 15)
    return fleet.hit_rate()


def test_conversations_hit_the_cache_far_more_often_than_by_round_robin():
    plain = converse(SimulatedFleet("round_robin", gateways=1))
    aware = SimulatedFleet("prefix_aware", gateways=1)

    assert converse(aware) >= 1.5 * plain
    assert max(aware.sent.values()) <= 0.65 * aware.sent.total()


def test_three_gateways_hit_the_cache_nearly_as_often_as_one():
    alone = converse(SimulatedFleet("prefix_aware", gateways=1))
    together = converse(SimulatedFleet("prefix_aware", gateways=3))

    assert together >= 0.8 * alone


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(1, 3), st.integers(0, 2**31))
def test_a_hot_prefix_is_spread_over_the_fleet(engine_count: int, gateway_count: int, seed: int):
    generator = random.Random(seed)
    fleet = SimulatedFleet("prefix_aware", gateways=gateway_count, engines_=engine_count)
    in_flight: list[Engine] = []
    concurrent = 24 * engine_count * gateway_count
    for number in range(concurrent * 4):
        engine = fleet.send(number % gateway_count, SYSTEM_PROMPT, f"{generator.random()} {TURN}")
        engine.occupancy.begin()
        in_flight.append(engine)
        if len(in_flight) > concurrent:
            in_flight.pop(generator.randrange(len(in_flight))).occupancy.end()

    fair = fleet.sent.total() / engine_count
    assert max(fleet.sent.values()) <= 1.35 * fair
    assert min(fleet.sent.values()) >= 0.65 * fair
