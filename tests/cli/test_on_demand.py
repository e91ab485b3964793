"""Engines that start at the first request: how many run, which of them ends, and why."""

import pytest
from redis.asyncio import Redis

from cli.supervisor.on_demand import GIB, OnDemandEngines
from contracts.engine import EngineLease, EngineLoad
from contracts.settings import OnDemandSettings
from store import redis_names
from store.leases import LeaseStore

START = 1_000_000.0


class Machine:
    """Engines of a machine with so much memory, as a list of names, and a clock."""

    def __init__(self, redis: Redis) -> None:
        self.running: list[str] = []
        self.models = {"a", "b", "c"}
        self.free_gib = 8.0
        self.now = START
        self._redis = redis
        self._leases = LeaseStore(redis)
        settings = OnDemandSettings(max_engines=2, idle_s=100, start_free_gib=2, keep_free_gib=1)
        self.control = OnDemandEngines(
            redis, self, settings, free_memory_bytes=lambda: int(self.free_gib * GIB), now=lambda: self.now
        )

    async def is_servable(self, model: str) -> bool:
        return model in self.models

    def is_running(self, model: str) -> bool:
        return model in self.running

    def start(self, model: str) -> None:
        self.running.append(model)

    async def stop(self, model: str) -> None:
        self.running.remove(model)
        self.free_gib += 3
        await self._leases.remove(f"engine-{model}")

    async def lease(self, model: str, *, busy: int = 0) -> None:
        lease = EngineLease(
            engine=f"engine-{model}",
            url="http://127.0.0.1:9",
            model=model,
            task="generate",
            capacity=1,
            context_length=64,
            load=EngineLoad(running=busy),
        )
        await self._leases.put(lease, ttl_s=60)

    async def use(self, model: str) -> None:
        await self._redis.zadd(redis_names.ON_DEMAND_USES, {model: self.now})

    async def start_both(self) -> None:
        for model in ("a", "b"):
            await self.control.meet(model)
            await self.lease(model)
            self.now += 10


@pytest.fixture
def machine(redis: Redis) -> Machine:
    return Machine(redis)


async def test_an_engine_is_started_once_and_only_for_a_model_that_there_is(machine: Machine):
    for model in ("a", "a", "nobody"):
        await machine.control.meet(model)
    assert machine.running == ["a"]


async def test_the_engine_used_longest_ago_makes_room(machine: Machine):
    await machine.start_both()
    await machine.use("a")
    machine.now += 20
    await machine.control.meet("c")
    assert machine.running == ["a", "c"]


async def test_engines_with_requests_and_those_that_still_start_stay(machine: Machine):
    await machine.control.meet("a")
    await machine.lease("a", busy=1)
    await machine.control.meet("b")  # has no lease yet
    machine.now += 1000
    await machine.control.meet("c")
    await machine.control.sweep()
    assert machine.running == ["a", "b"]


async def test_an_engine_that_nobody_uses_ends_after_its_time(machine: Machine):
    await machine.start_both()
    machine.now += 89  # 99 past b's start, and more past a's
    await machine.control.sweep()
    assert machine.running == ["b"]
    await machine.use("b")
    machine.now += 99
    await machine.control.sweep()
    assert machine.running == ["b"]
    machine.now += 2
    await machine.control.sweep()
    assert machine.running == []


async def test_where_memory_is_short_one_goes_and_none_starts_in_vain(machine: Machine):
    await machine.control.meet("a")
    await machine.lease("a")
    machine.now += 20
    machine.free_gib = -2  # even with the other one's there is too little
    await machine.control.meet("b")
    assert machine.running == []
    machine.free_gib = 2.5
    await machine.control.meet("b")
    await machine.lease("b")
    machine.now += 20
    machine.free_gib = 0.9
    await machine.control.sweep()
    assert machine.running == []


async def test_the_engine_of_a_deleted_model_ends(machine: Machine):
    await machine.start_both()
    machine.models.remove("a")
    await machine.control.sweep()
    assert machine.running == ["b"]
