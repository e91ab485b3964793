"""A fair queue: tenants share what is served by their weights, whatever each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996, "Start-time Fair Queuing"), for servers that work on many requests
at once: SFQ(D) (Jin, Chase and Kaur, 2004, "Interposed proportional sharing for a storage service utility"). Token
counts as cost are the idea of Sheng et al., 2024, "Fairness in serving large language models".

Pure: no clock and no I/O. Virtual time counts tokens per unit of weight, and stands at the start of what was served
last. A tenant's next request starts where its last one ended, or now if that is past. Whoever starts first is served
first. So over any time in which two tenants wait, what they are served differs, by weight, by at most the cost of one
request of each; and a tenant that asked for nothing lately waits for at most one request of every other.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
SLACK = 64
"""Forgotten tenants and outdated places in the order that are kept before they are swept."""


class QueueFull(Exception):
    """The queue takes no more of this tenant. `own_share`: because the tenant has its part of the queue already."""

    def __init__(self, *, own_share: bool) -> None:
        super().__init__()
        self.own_share = own_share


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """One request that waits. A `lane` is what it needs to be served: the name of its model."""

    item: Item
    tenant: str
    lane: str
    cost: float
    priority: int
    number: int
    waits: bool = True


@dataclass(slots=True, eq=False)
class _Flow(Generic[Item]):
    """A tenant. `start` is the virtual time at which its next request starts; a lane's heap is never empty."""

    weight: float
    start: float = 0.0
    waiting: int = 0
    lanes: dict[str, list[tuple[int, int, Ticket[Item]]]] = field(default_factory=dict)


class FairQueue(Generic[Item]):
    """Requests of many tenants. Costs O(log n) a request; a removal is linear in what its tenant has waiting.

    Within a tenant the lowest `priority` goes first, then who came first.
    """

    def __init__(self, *, max_length: int, max_length_per_tenant: int, weights: Mapping[str, float]) -> None:
        self._max_length = max_length
        self._max_length_per_tenant = max_length_per_tenant
        self._weights = weights
        self._flows: dict[str, _Flow[Item]] = {}
        self._flows_kept = 0
        self._order: dict[str, list[tuple[float, int, _Flow[Item]]]] = {}
        self._numbers = itertools.count()
        self._now = 0.0
        self.length = 0

    def waiting(self) -> dict[str, int]:
        """Requests that wait, by tenant."""
        return {name: flow.waiting for name, flow in self._flows.items() if flow.waiting}

    def charge(self, tenant: str, cost: float) -> None:
        """Counts a request that is served without having waited."""
        self._serve(self._flow(tenant), cost)

    def settle(self, tenant: str, difference: float) -> None:
        """Corrects the cost of a request that was served: `difference` is what it used beyond its estimate, or < 0.

        A correction gives no credit for the past: it takes a tenant back to now at most.
        """
        flow = self._flow(tenant)
        flow.start = max(self._now, flow.start + difference / flow.weight)
        self._put_in_order(flow)

    def push(self, item: Item, *, tenant: str, lane: str, cost: float, priority: int = 0) -> tuple[Ticket[Item], ...]:
        """The new request's ticket, and after it the ticket that had to leave for it, if any.

        A full queue makes room for a tenant by the last request of the tenant that has the most waiting, by weight
        (as Suter et al., 1998, "longest queue drop"). Raises QueueFull where that would be this tenant itself.
        """
        flow = self._flow(tenant)
        if flow.waiting >= self._max_length_per_tenant:
            raise QueueFull(own_share=True)
        dropped = () if self.length < self._max_length else (self._drop_for(flow),)
        ticket = Ticket(item, tenant, lane, max(1.0, cost), priority, next(self._numbers))
        if flow.waiting == 0:
            flow.start = max(flow.start, self._now)
        flow.waiting += 1
        self.length += 1
        heap = flow.lanes.get(lane)
        if heap is None:
            heap = flow.lanes[lane] = []
            self._put_in_order(flow)
        heapq.heappush(heap, (priority, ticket.number, ticket))
        return (ticket, *dropped)

    def pop(self, is_open: Callable[[str], bool]) -> Ticket[Item] | None:
        """The next request whose lane is open, or None where none waits. It counts as served."""
        first: tuple[float, int, _Flow[Item]] | None = None
        lane = ""
        for candidate in list(self._order):
            top = self._first_of(candidate)
            if top is not None and (first is None or top < first) and is_open(candidate):
                first, lane = top, candidate
        if first is None:
            return None
        flow = first[2]
        ticket = heapq.heappop(flow.lanes[lane])[2]
        self._left(flow, ticket)
        self._serve(flow, ticket.cost)
        return ticket

    def remove(self, ticket: Ticket[Item]) -> None:
        """Takes out a request that no longer wants to wait. It costs its tenant nothing."""
        flow = self._flows[ticket.tenant]
        heap = flow.lanes[ticket.lane]
        heap.remove((ticket.priority, ticket.number, ticket))
        heapq.heapify(heap)
        self._left(flow, ticket)

    def _flow(self, tenant: str) -> _Flow[Item]:
        flow = self._flows.get(tenant)
        if flow is None:
            if len(self._flows) > 2 * self._flows_kept + SLACK:
                self._forget_idle()
            flow = self._flows[tenant] = _Flow(self._weights.get(tenant, 1.0), self._now)
        return flow

    def _forget_idle(self) -> None:
        """Nothing need be known of a tenant that neither waits nor is ahead."""
        self._flows = {name: flow for name, flow in self._flows.items() if flow.waiting or flow.start > self._now}
        self._flows_kept = len(self._flows)

    def _serve(self, flow: _Flow[Item], cost: float) -> None:
        # Who could not be served for a while, since its lanes were shut, is not paid back for it.
        if flow.start > self._now:
            self._now = flow.start
        flow.start = self._now + cost / flow.weight
        if flow.waiting:
            self._put_in_order(flow)

    def _put_in_order(self, flow: _Flow[Item]) -> None:
        """Its older places in the order are outdated from now on, since their start is another one."""
        for lane in flow.lanes:
            order = self._order.setdefault(lane, [])
            heapq.heappush(order, (flow.start, next(self._numbers), flow))
            if len(order) > 2 * len(self._flows) + SLACK:
                order[:] = {id(place[2]): place for place in order if self._is_current(place, lane)}.values()
                heapq.heapify(order)

    def _first_of(self, lane: str) -> tuple[float, int, _Flow[Item]] | None:
        order = self._order[lane]
        while order and not self._is_current(order[0], lane):
            heapq.heappop(order)
        if order:
            return order[0]
        del self._order[lane]
        return None

    @staticmethod
    def _is_current(place: tuple[float, int, _Flow[Item]], lane: str) -> bool:
        start, _, flow = place
        return start == flow.start and lane in flow.lanes

    def _left(self, flow: _Flow[Item], ticket: Ticket[Item]) -> None:
        ticket.waits = False
        flow.waiting -= 1
        self.length -= 1
        if not flow.lanes[ticket.lane]:
            del flow.lanes[ticket.lane]

    def _drop_for(self, flow: _Flow[Item]) -> Ticket[Item]:
        longest = max(self._flows.values(), key=lambda other: other.waiting / other.weight)
        if (flow.waiting + 1) / flow.weight > (longest.waiting - 1) / longest.weight:
            weights = sum(other.weight for other in self._flows.values() if other.waiting or other is flow)
            raise QueueFull(own_share=flow.waiting >= self._max_length * flow.weight / weights)
        _, _, last = max(entry for heap in longest.lanes.values() for entry in heap)
        self.remove(last)
        return last
