"""What one gateway pays for a bigger fleet: the time of a choice and of a look at the leases, and its memory.

Of the real code alone, without simulated time: a gateway's costs depend on the engines that it knows and the requests
that it routes itself, not on how many gateways there are beside it.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import simpy

from contracts.engine import EngineLease
from contracts.settings import RoutingPolicyName
from gateway.routing.fleet import Fleet
from loadtests.fleet.engine import EngineSpeed, SimulatedEngine
from loadtests.fleet.gateway import LeasesInMemory, fleet_of
from loadtests.fleet.users import Conversation, Crowd, Habits

TIMED = 100


def cost_of(engines: int, policies: Sequence[RoutingPolicyName], requests: int) -> dict[str, Any]:
    """Microseconds of a choice by each policy, milliseconds of a look at all leases, and MiB of one gateway's fleet.

    `memory_mib` is after so many requests, `memory_idle_mib` before them. Memory is what Python's allocator counts.
    """
    environment = simpy.Environment()
    simulated = (SimulatedEngine(environment, number, EngineSpeed()) for number in range(engines))
    leases = {engine.name: engine.lease() for engine in simulated}
    crowd = Crowd(Habits(), seed=1)
    talks = [_begun(crowd) for _ in range(requests)]
    with asyncio.Runner() as runner:
        figures: dict[str, Any] = {"engines": engines}
        for policy in policies:
            fleet = fleet_of(policy, LeasesInMemory(leases), time.monotonic)
            runner.run(fleet.refresh())
            figures[f"{policy}_us"] = _rounded(median(_times_us(fleet, talks[:TIMED])))
        began = time.perf_counter()
        runner.run(fleet.refresh())
        figures["look_at_leases_ms"] = _rounded((time.perf_counter() - began) * 1000)
        figures |= _memory(runner, leases, talks)
    return figures


def _begun(crowd: Crowd) -> Conversation:
    talk = crowd.conversation()
    crowd.ask(talk)
    return talk


def _times_us(fleet: Fleet, talks: Sequence[Conversation]) -> list[float]:
    times = []
    for talk in talks:
        request = talk.request()
        began = time.perf_counter()
        chosen = fleet.pick(request)
        times.append((time.perf_counter() - began) * 1e6)
        assert chosen is not None
    return times


def _memory(
    runner: asyncio.Runner, leases: Mapping[str, EngineLease], talks: Sequence[Conversation]
) -> dict[str, float]:
    gc.collect()
    tracemalloc.start()
    own = {name: lease.model_copy(deep=True) for name, lease in leases.items()}
    fleet = fleet_of("prefix_aware", LeasesInMemory(own), time.monotonic)
    runner.run(fleet.refresh())
    idle = tracemalloc.get_traced_memory()[0]
    for talk in talks:
        fleet.pick(talk.request())
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"memory_idle_mib": _rounded(idle / 2**20), "memory_mib": _rounded(used / 2**20)}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
