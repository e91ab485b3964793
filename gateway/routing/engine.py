"""One engine, as this gateway sees it."""

import time
from collections.abc import Callable

from contracts.engine import EngineLease
from gateway.relay.upstream import Upstream
from gateway.routing.health import EngineHealth
from gateway.routing.occupancy import Occupancy
from gateway.routing.prefixes import PrefixMemory, blocks_in
from gateway.routing.rendezvous import key_of


class Engine:
    """A live engine: its newest lease, its connections, what we have in flight there, and what we know of it."""

    def __init__(self, lease: EngineLease, upstream: Upstream, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease = lease
        self.upstream = upstream
        self.occupancy = Occupancy(lease.capacity)
        self.health = EngineHealth(clock)
        self.prefixes = PrefixMemory(blocks_in(lease.load.kv_cache_tokens))
        self.seed = key_of(lease.engine)
        self._clock = clock

    @property
    def in_flight(self) -> int:
        return self.occupancy.in_flight

    def renew(self, lease: EngineLease) -> None:
        load = lease.load
        if load.kv_cache_tokens != self.lease.load.kv_cache_tokens:
            self.prefixes.resize(blocks_in(load.kv_cache_tokens))
        self.lease = lease
        self.occupancy.renew(reported=load.running + load.waiting, capacity=lease.capacity, now=self._clock())

    def lose(self, adapter: str) -> None:
        """It said that it does not have the adapter. Its next lease is believed again."""
        kept = tuple(name for name in self.lease.adapters if name != adapter)
        self.lease = self.lease.model_copy(update={"adapters": kept})

    def load(self) -> float:
        """How full it is, 1 being a whole batch. Ours are counted now; those of other gateways as of the last lease."""
        return 1 - self.occupancy.free() / self.lease.capacity
