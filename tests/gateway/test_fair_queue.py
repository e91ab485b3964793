"""The fair queue's promises, over histories that nobody thought of."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.queueing.fair import FairQueue, QueueFull, Ticket

ANY = "model"
COSTS = st.integers(1, 1000)
WEIGHTS = st.sampled_from([0.5, 1.0, 2.0, 10.0])


def always(_lane: str) -> bool:
    return True


def fair_queue(max_length: int = 10_000, max_length_per_tenant: int = 10_000, **weights: float) -> FairQueue[int]:
    return FairQueue(max_length=max_length, max_length_per_tenant=max_length_per_tenant, weights=weights)


def fill(queue: FairQueue[int], tenant: str, costs: list[int], **options: int) -> list[Ticket[int]]:
    return [queue.push(0, tenant=tenant, lane=ANY, cost=cost, **options)[0] for cost in costs]


def served(queue: FairQueue[int]) -> Iterator[Ticket[int]]:
    while (ticket := queue.pop(always)) is not None:
        yield ticket


# -- fairness


@settings(max_examples=200, deadline=None)
@given(
    one=st.lists(COSTS, min_size=1, max_size=60),
    other=st.lists(COSTS, min_size=1, max_size=60),
    third=st.lists(COSTS, max_size=60),
    weights=st.tuples(WEIGHTS, WEIGHTS),
    ahead=st.lists(st.tuples(st.sampled_from(["one", "other", "third"]), COSTS), max_size=20),
)
def test_two_tenants_that_wait_are_served_by_weight_within_one_request_of_each(one, other, third, weights, ahead):
    """Theorem 1 of Goyal et al.: over every interval in which both wait."""
    queue = fair_queue(one=weights[0], other=weights[1])
    for tenant, cost in ahead:
        queue.charge(tenant, cost)
    fill(queue, "one", one)
    fill(queue, "third", third)
    fill(queue, "other", other)

    def longest(tenant: str, waiting: list[int]) -> float:
        return max([*waiting, *(cost for name, cost in ahead if name == tenant)])

    bound = longest("one", one) / weights[0] + longest("other", other) / weights[1]
    lead, low, high = 0.0, 0.0, 0.0
    while queue.waiting().keys() >= {"one", "other"}:
        ticket = queue.pop(always)
        if ticket.tenant != "third":
            lead += ticket.cost / weights[0] if ticket.tenant == "one" else -ticket.cost / weights[1]
            low, high = min(low, lead), max(high, lead)
        assert high - low <= bound + 1e-6


@settings(max_examples=200, deadline=None)
@given(
    floods=st.lists(st.lists(COSTS, min_size=1, max_size=30), min_size=1, max_size=8),
    served_before=st.integers(0, 100),
    cost=COSTS,
)
def test_a_new_tenant_waits_for_one_request_of_every_other_at_most(floods, served_before, cost):
    queue = fair_queue()
    for number, flood in enumerate(floods):
        fill(queue, f"flood-{number}", flood)
    for _ in range(min(served_before, queue.length)):
        queue.pop(always)
    mine = fill(queue, "new", [cost])[0]

    before: Counter[str] = Counter()
    for ticket in served(queue):
        if ticket is mine:
            break
        before[ticket.tenant] += 1
    assert all(count == 1 for count in before.values())
    assert not mine.waits


def test_weights_share_what_is_served():
    queue = fair_queue(heavy=3.0)
    for tenant in ("light", "heavy"):
        fill(queue, tenant, [100] * 400)
    first = Counter(queue.pop(always).tenant for _ in range(400))
    assert first["heavy"] == pytest.approx(300, abs=2)


def test_a_tenant_with_cheap_requests_gets_more_of_them():
    queue = fair_queue()
    fill(queue, "long", [1000] * 2000)
    fill(queue, "short", [10] * 2000)
    first = Counter(queue.pop(always).tenant for _ in range(1010))
    assert first["short"] == pytest.approx(1000, abs=2)


def test_what_did_not_wait_counts_too():
    queue = fair_queue()
    queue.charge("busy", 1000)
    fill(queue, "busy", [10] * 3)
    fill(queue, "idle", [10] * 3)
    assert [ticket.tenant for ticket in served(queue)] == ["idle"] * 3 + ["busy"] * 3


def test_a_correction_moves_a_tenant_back_or_forth():
    more, less = fair_queue(), fair_queue()
    for queue, difference in ((more, 500.0), (less, -90.0)):
        queue.charge("corrected", 100)
        queue.settle("corrected", difference)
        fill(queue, "corrected", [10] * 6)
        fill(queue, "other", [10] * 6)

    assert [ticket.tenant for ticket in served(more)][:6] == ["other"] * 6
    assert "corrected" in [ticket.tenant for ticket in served(less)][:3]


def test_a_correction_gives_no_credit_for_the_past():
    queue = fair_queue()
    queue.settle("greedy", -1e9)
    fill(queue, "greedy", [10] * 6)
    fill(queue, "other", [10] * 6)
    assert Counter(ticket.tenant for ticket in list(served(queue))[:6]) == {"greedy": 3, "other": 3}


# -- order within a tenant


@given(priorities=st.lists(st.integers(-3, 3), min_size=1, max_size=50))
def test_within_a_tenant_the_lowest_priority_goes_first_then_who_came_first(priorities):
    queue = fair_queue()
    tickets = [fill(queue, "one", [5], priority=priority)[0] for priority in priorities]
    wanted = sorted(tickets, key=lambda ticket: (ticket.priority, ticket.number))
    assert list(served(queue)) == wanted


def test_priority_means_nothing_between_tenants():
    queue = fair_queue()
    fill(queue, "calm", [10] * 3, priority=5)
    fill(queue, "pushy", [10] * 3, priority=-1000)
    assert [ticket.tenant for ticket in served(queue)] == ["calm", "pushy"] * 3


# -- work conservation, length, lanes


@dataclass
class Model:
    """What must be true of the queue, by the simplest means."""

    queue: FairQueue[int]
    max_length: int
    per_tenant: int
    waiting: list[Ticket[int]] = field(default_factory=list)

    def push(self, tenant: str, lane: str, cost: int, priority: int) -> None:
        try:
            added, *dropped = self.queue.push(0, tenant=tenant, lane=lane, cost=cost, priority=priority)
        except QueueFull:
            assert len(self.waiting) == self.max_length or self.queue.waiting()[tenant] == self.per_tenant
            return
        self.waiting.append(added)
        for ticket in dropped:
            assert ticket.tenant != tenant
            self.waiting.remove(ticket)

    def pop(self, lanes: set[str]) -> None:
        ticket = self.queue.pop(lanes.__contains__)
        if ticket is None:
            assert not any(waiting.lane in lanes for waiting in self.waiting)
        else:
            assert ticket.lane in lanes
            self.waiting.remove(ticket)

    def remove(self, number: int) -> None:
        if self.waiting:
            self.queue.remove(self.waiting.pop(number % len(self.waiting)))

    def charge(self, tenant: str, cost: int) -> None:
        self.queue.charge(tenant, cost)

    def settle(self, tenant: str, difference: int) -> None:
        self.queue.settle(tenant, difference)

    def check(self) -> None:
        assert self.queue.length == len(self.waiting) <= self.max_length
        assert self.queue.waiting() == Counter(ticket.tenant for ticket in self.waiting)
        assert all(count <= self.per_tenant for count in self.queue.waiting().values())


LANES = st.sampled_from(["x", "y", "z"])
OPERATIONS = st.one_of(
    st.tuples(st.just("push"), st.sampled_from("abcd"), LANES, COSTS, st.integers(0, 2)),
    st.tuples(st.just("pop"), st.sets(LANES)),
    st.tuples(st.just("remove"), st.integers(0, 100)),
    st.tuples(st.just("charge"), st.sampled_from("abcdefgh"), COSTS),
    st.tuples(st.just("settle"), st.sampled_from("abcdefgh"), st.integers(-1000, 1000)),
)


@settings(max_examples=300, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=120), max_length=st.integers(1, 12), per_tenant=st.integers(1, 6))
def test_nothing_waits_that_could_be_served_and_the_length_is_bounded(operations, max_length, per_tenant):
    model = Model(fair_queue(max_length, per_tenant, a=2.0), max_length, per_tenant)
    for name, *arguments in operations:
        getattr(model, name)(*arguments)
        model.check()


def test_a_full_queue_makes_room_for_a_tenant_below_its_share():
    queue = fair_queue(max_length=4)
    flood = fill(queue, "flood", [10] * 4)
    added, *dropped = queue.push(0, tenant="small", lane=ANY, cost=10)

    assert dropped == flood[-1:]
    assert added.waits
    assert queue.waiting() == {"flood": 3, "small": 1}


def test_a_full_queue_tells_whose_share_is_the_reason():
    queue = fair_queue(max_length=2)
    fill(queue, "one", [10])
    fill(queue, "two", [10])
    with pytest.raises(QueueFull) as of_one:
        fill(queue, "one", [10])
    with pytest.raises(QueueFull) as of_three:
        fill(queue, "three", [10])
    assert (of_one.value.own_share, of_three.value.own_share) == (True, False)


def test_a_shut_lane_holds_up_no_other_and_is_not_paid_back():
    queue = fair_queue()
    for _ in range(50):
        queue.push(0, tenant="shut", lane="adapter", cost=10)
        queue.push(0, tenant="open", lane=ANY, cost=10)
    assert [queue.pop(lambda lane: lane == ANY).tenant for _ in range(25)] == ["open"] * 25
    both = Counter(queue.pop(always).tenant for _ in range(20))
    assert both["shut"] == pytest.approx(10, abs=1)


def test_thousands_of_passing_tenants_are_forgotten():
    queue = fair_queue()
    for number in range(5000):
        queue.charge(f"tenant-{number}", 10)
        queue.charge("steady", 10)
    assert len(queue._flows) < 200
