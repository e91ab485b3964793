"""The wait for an engine: over the real fleet, whose leases lie in a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import generate_latest

from contracts.engine import EngineLease
from contracts.errors import DeadlineExceeded, EnginesFull, InvalidValue, RateLimitExceeded
from contracts.openai import CompletionRequest
from contracts.settings import GatewaySettings, QueueSettings
from gateway.metrics import Metrics
from gateway.queueing.deadline import NO_DEADLINE, Deadline
from gateway.queueing.queue import MOST_TENANTS, EngineQueue, TenantUse
from gateway.routing.acquaintances import Acquaintances
from gateway.routing.demand import Demand
from gateway.routing.fleet import Fleet
from gateway.routing.policies.least_loaded import LeastLoaded
from gateway.routing.request import RoutingRequest
from store.demand import DemandStore
from store.leases import LeaseStore
from tests.gateway.conftest import MODEL, model_card

CARD = model_card()
ADAPTER = model_card("ft:ship", kind="adapter", parent=MODEL)


class Traffic:
    """A queue before engines that do nothing: a request holds its place until it is told to end."""

    def __init__(self, redis, **settings: object) -> None:
        self.metrics = Metrics()
        self.leases = LeaseStore(redis)
        demand = Demand(DemandStore(redis), self.metrics)
        acquaintances = Acquaintances(self.leases, "gateway", most=None)
        self.fleet = Fleet(acquaintances, demand, GatewaySettings(), self.metrics, LeastLoaded())
        self.queue = EngineQueue(self.fleet, QueueSettings.model_validate(settings), self.metrics)
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def engine(self, name: str = "engine-1", capacity: int = 1, **fields: object) -> None:
        defaults = {"engine": name, "url": "http://127.0.0.1:9", "model": MODEL, "task": "generate"}
        lease = EngineLease.model_validate({**defaults, "capacity": capacity, "context_length": 2048, **fields})
        await self.leases.put(lease, ttl_s=60)
        await self.fleet.refresh()

    async def ask(self, name: str, tenant: str = "one", card=CARD, **options) -> asyncio.Task[None]:
        self.ends[name] = asyncio.Event()
        task = asyncio.create_task(self._hold(name, tenant, card, **options), name=name)
        self.tasks.append(task)
        await settled()
        return task

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settled()

    async def end_in_turn(self) -> list[str]:
        """Ends each request as its turn comes; the order in which they had it."""
        while not all(task.done() for task in self.tasks):
            for name in self.order:
                self.ends[name].set()
            await settled()
        return self.order

    def metric(self, name: str) -> float:
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    async def _hold(self, name: str, tenant: str, card, tokens: int = 100, used: int | None = None, **options) -> None:
        async with self.queue.place(card, tenant=tenant, tokens=tokens, **options) as place:
            engine = self.fleet.pick(RoutingRequest(card.name, CompletionRequest(model=card.name, prompt=name)))
            if engine is not None:
                engine.occupancy.begin()
            try:
                self.order.append(name)
                await self.ends[name].wait()
                place.used_tokens = used
            finally:
                if engine is not None:
                    engine.occupancy.end()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def traffic_with(redis, **settings: object) -> AsyncIterator[Traffic]:
    traffic = Traffic(redis, **settings)
    yield traffic
    for task in traffic.tasks:
        task.cancel()
    await asyncio.gather(*traffic.tasks, return_exceptions=True)
    traffic.fleet.close()


async def test_with_a_free_place_nothing_waits_and_the_loop_does_not_turn(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine(capacity=2)
        entering = traffic.queue.place(CARD, tenant="one", tokens=10).__aenter__()
        with pytest.raises(StopIteration):  # a coroutine that never waited ends at its first step
            entering.send(None)
        assert traffic.queue.waiting() == {}


async def test_requests_beyond_the_capacity_wait_for_an_end(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine("engine-1", capacity=2)
        await traffic.engine("engine-2", capacity=1)
        for number in range(5):
            await traffic.ask(f"r{number}")
        assert traffic.order == ["r0", "r1", "r2"]
        assert traffic.metric("flywheel_queue_length") == 2

        await traffic.end("r1")
        assert traffic.order == ["r0", "r1", "r2", "r3"]
        assert traffic.queue.waiting() == {MODEL: {"one": 1}}
        assert traffic.metric("flywheel_queue_wait_seconds_count") == 1


async def test_a_tenant_that_floods_delays_another_by_one_request(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        for number in range(20):
            await traffic.ask(f"flood-{number}", "flood")
        for number in range(3):
            await traffic.ask(f"small-{number}", "small")
        order = await traffic.end_in_turn()

    assert order.index("small-0") <= 2
    assert order.index("small-2") <= 6


async def test_weights_of_the_settings_count(redis):
    async with traffic_with(redis, tenant_weights={"gold": 3.0}) as traffic:
        await traffic.engine()
        for number in range(12):
            await traffic.ask(f"plain-{number}", "plain")
            await traffic.ask(f"gold-{number}", "gold")
        order = await traffic.end_in_turn()

    assert 8 <= sum(name.startswith("gold") for name in order[:12]) <= 10


async def test_what_a_request_really_used_corrects_its_estimate(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        await traffic.ask("wordy-0", "wordy", tokens=10, used=5000)
        for number in range(1, 4):
            await traffic.ask(f"wordy-{number}", "wordy", tokens=10)
            await traffic.ask(f"terse-{number}", "terse", tokens=10)
        order = await traffic.end_in_turn()
        assert traffic.queue.tenants["wordy"].tokens == 5000

    assert order[1:4] == ["terse-1", "terse-2", "terse-3"]


def test_a_tenant_is_charged_by_what_it_uses_of_its_estimates():
    use = TenantUse()
    assert use.expect(1000) == 1000
    for _ in range(50):
        use.learn(1000, 10)
    assert use.expect(1000) == pytest.approx(10, rel=0.1)


async def test_a_priority_counts_within_its_tenant(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        await traffic.ask("first")
        await traffic.ask("later", priority=1)
        await traffic.ask("sooner", priority=-1)
        assert await traffic.end_in_turn() == ["first", "sooner", "later"]


async def test_a_tenant_beyond_its_part_of_the_queue_gets_429(redis):
    async with traffic_with(redis, max_length_per_tenant=2) as traffic:
        await traffic.engine()
        for number in range(3):
            await traffic.ask(f"r{number}")
        refused = await traffic.ask("r3")
        await traffic.ask("other", "two")

        with pytest.raises(RateLimitExceeded) as error:
            await refused
        assert error.value.headers()["retry-after"] == "1"
        assert traffic.queue.waiting() == {MODEL: {"one": 2, "two": 1}}
        assert traffic.metric(f'flywheel_queue_refused_total{{model="{MODEL}",reason="tenant_full"}}') == 1


async def test_a_full_queue_answers_503_and_makes_room_for_those_below_their_share(redis):
    async with traffic_with(redis, max_length=2) as traffic:
        await traffic.engine()
        await traffic.ask("served")
        await traffic.ask("a", "one")
        pushed_out = await traffic.ask("b", "one")
        await traffic.ask("c", "two")
        refused = await traffic.ask("d", "three")

        with pytest.raises(RateLimitExceeded):
            await pushed_out
        with pytest.raises(EnginesFull) as error:
            await refused
        assert error.value.status == 503
        assert traffic.queue.waiting() == {MODEL: {"one": 1, "two": 1}}


async def test_a_wait_that_is_too_long_ends_with_503(redis):
    async with traffic_with(redis, max_wait_s=0.05) as traffic:
        await traffic.engine()
        await traffic.ask("served")
        with pytest.raises(EnginesFull) as error:
            await (await traffic.ask("waits"))
        assert "retry-after" in error.value.headers()
        assert traffic.queue.waiting() == {}


async def test_the_clients_own_deadline_ends_the_wait_with_504(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        await traffic.ask("served")
        deadline = Deadline.of({b"x-request-timeout": b"0.05"})
        waits = await traffic.ask("waits", deadline=deadline)
        with pytest.raises(DeadlineExceeded):
            await waits
        with pytest.raises(DeadlineExceeded):
            await (await traffic.ask("comes too late", deadline=deadline))
        assert traffic.queue.waiting() == {}


async def test_a_client_that_leaves_while_it_waits_leaves_the_queue(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        for name in ("served", "leaves", "stays"):
            await traffic.ask(name)
        traffic.tasks[1].cancel()
        await settled()
        assert traffic.queue.waiting() == {MODEL: {"one": 1}}
        await traffic.end("served")
        assert traffic.order == ["served", "stays"]


async def test_a_client_that_leaves_as_its_turn_comes_gives_the_turn_on(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        for name in ("served", "leaves", "stays"):
            await traffic.ask(name)
        traffic.ends["served"].set()
        while traffic.queue.waiting() == {MODEL: {"one": 2}}:
            await asyncio.sleep(0)
        traffic.tasks[1].cancel()  # its turn has come, and its task has not run since
        await settled()
        assert traffic.order == ["served", "stays"]


async def test_a_new_engine_takes_those_who_wait(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine("engine-1")
        for number in range(3):
            await traffic.ask(f"r{number}")
        await traffic.engine("engine-2", capacity=2)
        await settled()
        assert traffic.order == ["r0", "r1", "r2"]


async def test_an_adapter_waits_only_for_the_engines_that_have_it(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine("engine-1", adapters=(ADAPTER.name,))
        await traffic.ask("adapter-0", card=ADAPTER)
        await traffic.ask("adapter-1", card=ADAPTER)
        await traffic.engine("engine-2")
        await traffic.ask("base", card=CARD)
        assert traffic.order == ["adapter-0", "base"]
        await traffic.end("base")
        assert traffic.order == ["adapter-0", "base"]
        await traffic.end("adapter-0")
        assert traffic.order == ["adapter-0", "base", "adapter-1"]


async def test_who_was_held_back_by_another_that_took_another_engine_goes_on(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine("engine-1")
        await traffic.ask("base-0")
        await traffic.engine("engine-2", adapters=(ADAPTER.name,))
        await traffic.ask("adapter-0", card=ADAPTER)
        await traffic.ask("base-1")
        await traffic.ask("adapter-1", "two", card=ADAPTER)
        traffic.ends["base-0"].set()
        traffic.ends["adapter-0"].set()  # both engines are free before the next request picks one
        await settled()
        assert traffic.order == ["base-0", "adapter-0", "base-1", "adapter-1"]


async def test_without_any_engine_there_is_no_place_to_wait_for(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine()
        await traffic.ask("served")
        await traffic.ask("waits")
        await traffic.leases.remove("engine-1")
        await traffic.fleet.refresh()
        await settled()
        assert traffic.order == ["served", "waits"]


async def test_no_more_are_let_in_than_there_are_places_whatever_happens_at_once(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine(capacity=4)
        most = 0
        for number in range(40):
            traffic.ends[f"r{number}"] = asyncio.Event()
            traffic.tasks.append(asyncio.create_task(traffic._hold(f"r{number}", f"tenant-{number % 3}", CARD)))
        while not all(task.done() for task in traffic.tasks):
            await asyncio.sleep(0)
            most = max(most, traffic.fleet.in_flight())
            for name in traffic.order:
                traffic.ends[name].set()
            await traffic.fleet.refresh()
    assert most == 4
    assert sorted(traffic.order) == sorted(f"r{number}" for number in range(40))
    assert {use.in_flight for use in traffic.queue.tenants.values()} == {0}


async def test_a_deadline_covers_what_it_encloses():
    deadline = Deadline.of({b"x-request-timeout": b"0.02"})
    with pytest.raises(DeadlineExceeded):
        async with deadline.enforced():
            await asyncio.sleep(5)


async def test_without_a_header_there_is_no_deadline():
    assert Deadline.of({}) is NO_DEADLINE
    async with NO_DEADLINE.enforced():
        pass


@pytest.mark.parametrize("given", [b"", b"soon", b"0", b"-1", b"nan", b"inf"])
async def test_a_timeout_that_is_no_time_is_refused(given: bytes):
    with pytest.raises(InvalidValue) as error:
        Deadline.of({b"x-request-timeout": given})
    assert error.value.param == "x-request-timeout"


async def test_tenants_without_requests_are_forgotten_before_they_are_too_many(redis):
    async with traffic_with(redis) as traffic:
        await traffic.engine(capacity=1)
        await traffic.ask("served", tenant="busy")
        await traffic.ask("queued", tenant="patient")
        for number in range(3 * MOST_TENANTS):
            traffic.queue.place(CARD, tenant=f"passer-by-{number}", tokens=10)
            assert len(traffic.queue.tenants) <= MOST_TENANTS

        assert traffic.queue.tenants["busy"].in_flight == 1
        await traffic.end("served")
        assert traffic.queue.tenants["patient"].in_flight == 1
