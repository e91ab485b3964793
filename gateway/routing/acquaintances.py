"""The engines that one gateway knows: all of them, or of each model a part that is the gateway's own.

A choice and a look at the leases cost in proportion to the engines known. In a large fleet each gateway therefore knows
some of them (Beyer et al., 2016, "Site Reliability Engineering", chapter 20, "Subsetting"): those of a model that score
highest with its own name (gateway/routing/rendezvous.py), so that it keeps nearly all of its part when engines come and
go. Parts overlap by chance: with g gateways that know k of n engines each, an engine is known to g · k / n in the mean,
and to none with a chance of exp(−g · k / n).
"""

from collections import defaultdict
from collections.abc import Collection
from heapq import nlargest

from contracts.engine import EngineLease
from gateway.routing.rendezvous import key_of, mix
from store.leases import LeaseStore


class Acquaintances:
    """`most` engines of each model at most, or all with None. `gateway` is a name that no other gateway has."""

    def __init__(self, store: LeaseStore, gateway: str, most: int | None) -> None:
        self._store, self._key, self._most = store, key_of(gateway), most
        self._models: dict[str, str] = {}
        self._known: list[str] = []

    async def leases(self) -> list[EngineLease]:
        """Raises redis.exceptions.RedisError."""
        if self._most is None:
            return await self._store.alive()
        names = await self._store.names()
        if names != self._models.keys():
            await self._meet(names, self._most)
        return await self._store.read(self._known)

    async def _meet(self, names: Collection[str], most: int) -> None:
        strangers = [name for name in names if name not in self._models]
        self._models = {name: model for name, model in self._models.items() if name in names}
        self._models |= {lease.engine: lease.model for lease in await self._store.read(strangers)}
        engines = defaultdict(list)
        for name, model in self._models.items():
            engines[model].append(name)
        self._known = [name for of_one in engines.values() for name in nlargest(most, of_one, key=self._score)]

    def _score(self, engine: str) -> int:
        return mix(self._key, key_of(engine))
