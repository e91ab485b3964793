"""A gateway in simulated time: its fleet, policies and fair queue are the real ones.

What is not here is all that takes a request's time at the gateway, which is under a millisecond, and asyncio: the real
`EngineQueue` waits in an event loop, so the wait for a place is told anew over the real `FairQueue`.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence

import simpy

from contracts.engine import EngineLease
from contracts.settings import GatewaySettings, RoutingPolicyName
from gateway.metrics import Metrics
from gateway.queueing.fair import FairQueue
from gateway.routing.acquaintances import Acquaintances
from gateway.routing.demand import Demand
from gateway.routing.engine import Engine
from gateway.routing.fleet import Fleet
from gateway.routing.policies import POLICIES
from gateway.routing.request import RoutingRequest
from loadtests.fleet.engine import MODEL
from store.demand import DemandStore
from store.leases import LeaseStore

ANY_LENGTH = 1_000_000
NO_REDIS = None


class LeasesInMemory(LeaseStore):
    """What engines tell, by their names, without Redis between."""

    def __init__(self, told: Mapping[str, EngineLease]) -> None:
        self._told = told

    async def alive(self) -> list[EngineLease]:
        return list(self._told.values())

    async def names(self) -> set[str]:
        return set(self._told)

    async def read(self, names: Sequence[str]) -> list[EngineLease]:
        return [self._told[name] for name in names]


def fleet_of(
    policy: RoutingPolicyName,
    leases: LeaseStore,
    clock: Callable[[], float],
    *,
    name: str = "gateway",
    known: int | None = None,
) -> Fleet:
    metrics = Metrics()
    demand = Demand(DemandStore(NO_REDIS), metrics)  # nothing waits for a model here, so Redis is never asked
    acquaintances = Acquaintances(leases, name, known)
    return Fleet(acquaintances, demand, GatewaySettings(), metrics, POLICIES[policy](), clock)


class SimulatedGateway:
    """`known` is the most engines that it knows."""

    def __init__(
        self,
        environment: simpy.Environment,
        policy: RoutingPolicyName,
        leases: LeaseStore,
        runner: asyncio.Runner,
        *,
        name: str,
        known: int | None,
    ) -> None:
        self._environment = environment
        self._runner = runner
        self.fleet = fleet_of(policy, leases, lambda: environment.now, name=name, known=known)
        self._queue: FairQueue[simpy.Event] = FairQueue(
            max_length=ANY_LENGTH, max_length_per_tenant=ANY_LENGTH, weights={}
        )
        self._admitted = 0

    def look_at_leases(self) -> None:
        self._runner.run(self.fleet.refresh())
        self._admit()

    def enter(self, request: RoutingRequest, *, tenant: str, tokens: int) -> Generator[simpy.Event, object, Engine]:
        """Waits for a place at an engine and picks it. It counts there until `leave`."""
        if self._queue.length == 0 and self.fleet.has_room(MODEL, beside=self._admitted):
            self._queue.charge(tenant, tokens)
        else:
            turn = self._environment.event()
            self._queue.push(turn, tenant=tenant, lane=MODEL, cost=tokens)
            yield turn
            self._admitted -= 1
        engine = self.fleet.pick(request)
        assert engine is not None
        engine.occupancy.begin()
        return engine

    def leave(self, engine: Engine) -> None:
        engine.occupancy.end()
        self._admit()

    def _admit(self) -> None:
        while self._queue.length and self.fleet.has_room(MODEL, beside=self._admitted):
            ticket = self._queue.pop(lambda _: True)
            assert ticket is not None
            self._admitted += 1
            ticket.item.succeed()
