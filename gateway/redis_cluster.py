"""The data path's client of a Redis cluster: a pipe to each primary, and each command to that which has its slot.

Protocol: redis.io/docs, "Redis cluster specification", "Redirection and resharding".
"""

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from contracts.redis_urls import at_address, is_cluster, server_urls
from gateway.redis_pipe import Argument, Pipe, RedisPipe, fail, pack

SLOTS = 16384
LOOK_EVERY_S = 0.25
"""Between two looks at who has which slots, while calls fail."""
MOST_TRIES = 10
TRY_AGAIN_S = 0.05
ASKING = pack(("ASKING",))

Address = tuple[str, int]


class _Call(asyncio.Future[Any]):
    """A reply that is waited for, with what it takes to ask another server."""

    __slots__ = ("packed", "slot", "tries")

    def __init__(self, packed: bytes, slot: int) -> None:
        super().__init__()
        self.packed = packed
        self.slot = slot
        self.tries = 0


class ClusterPipe(Pipe):
    """`url` names some of the cluster's servers, as contracts/redis_urls.py says.

    Every command must name a key, and the names of one call must share a hash tag. A slot that moves is followed;
    commands about it may lose their order meanwhile. A call to a server that is gone fails like one to a Redis that is
    away, until a replica has its place: while calls fail, the servers are asked every `LOOK_EVERY_S` who has which
    slots.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._seeds = server_urls(url)
        self._host = urlsplit(self._seeds[0]).hostname or "localhost"
        self._timeout_s = timeout_s
        self._pipes: dict[Address, RedisPipe] = {}
        self._owners: list[RedisPipe | None] = []
        self._tags: tuple[str, ...] = ("",)
        self._waiting: list[_Call] = []
        self._looking: asyncio.Task[None] | None = None
        self._may_look_at = 0.0
        self._log = structlog.get_logger(__name__)

    @property
    def tags(self) -> Sequence[str]:
        return self._tags

    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        key = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
        call = _Call(pack(command), key_slot(key if isinstance(key, bytes) else str(key).encode()))
        self._send(call)
        return call

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for pipe in self._pipes.values():
            await pipe.close()

    def _send(self, call: _Call) -> None:
        if not self._owners and self._looking is None and asyncio.get_running_loop().time() < self._may_look_at:
            fail(call, RedisConnectionError("The cluster is away."))
        elif not self._owners:
            self._waiting.append(call)
            self._look_soon()
        elif (pipe := self._owners[call.slot]) is not None:
            pipe.send(call.packed, call)
        else:
            self._failed(call, RedisConnectionError("No server of the cluster has this slot."))

    def _failed(self, future: "asyncio.Future[Any]", error: RedisError) -> None:
        """Asks elsewhere where the error says that it helps."""
        if not isinstance(future, _Call):
            fail(future, error)
            return
        kind, *details = str(error).split(" ") if isinstance(error, ResponseError) else ("",)
        if kind in ("", "CLUSTERDOWN", "MOVED"):
            self._look_soon()
        if future.tries == MOST_TRIES or future.done():
            fail(future, error)
        elif kind == "MOVED":
            future.tries += 1
            pipe = self._owners[future.slot] = self._pipe_to(details[1])
            pipe.send(future.packed, future)
        elif kind == "ASK":
            future.tries += 1
            pipe = self._pipe_to(details[1])
            pipe.send(ASKING, asyncio.get_running_loop().create_future())
            pipe.send(future.packed, future)
        elif kind == "TRYAGAIN":  # some of its names have moved with their slot, and others not yet
            future.tries += 1
            asyncio.get_running_loop().call_later(TRY_AGAIN_S, self._send, future)
        else:
            fail(future, error)

    def _pipe_to(self, address: str) -> RedisPipe:
        host, _, port = address.rpartition(":")
        return self._pipe(self._address(host, int(port)))

    def _pipe(self, address: Address) -> RedisPipe:
        if address not in self._pipes:
            url = at_address(self._seeds[0], *address)
            self._pipes[address] = RedisPipe(url, timeout_s=self._timeout_s, failed=self._failed)
        return self._pipes[address]

    def _address(self, host: str | bytes | None, port: int) -> Address:
        """A server that does not know its host is where the cluster was found."""
        told = host.decode() if isinstance(host, bytes) else host
        return (self._host if told in (None, "", "?") else told, port)

    # -- who has which slots

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._may_look_at - loop.time())
            await self._ask_servers()
        finally:
            self._may_look_at = loop.time() + LOOK_EVERY_S
            self._looking = None
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                self._send(call)

    async def _ask_servers(self) -> None:
        known = [*self._pipes.values()]
        random.shuffle(known)  # one that was cut off from the others tells what was
        seeds = [RedisPipe(url, timeout_s=self._timeout_s) for url in self._seeds]
        try:
            for pipe in (*known, *seeds):
                try:
                    slots = await pipe.call("CLUSTER", "SLOTS")
                except RedisError as error:
                    self._log.warning("slots not told", reason=type(error).__name__)
                    continue
                if slots:
                    await self._take(slots)
                    return
        finally:
            for seed in seeds:
                await seed.close()

    async def _take(self, slots: list[Any]) -> None:
        """`slots` is [[first slot, last slot, [host, port, …] of the primary, … of a replica, …], …]."""
        owners: list[RedisPipe | None] = [None] * SLOTS
        listed: set[Address] = set()
        for first, last, primary, *replicas in slots:
            owners[first : last + 1] = [self._pipe(self._address(*primary[:2]))] * (last + 1 - first)
            listed.update(self._address(*server[:2]) for server in (primary, *replicas))
        self._owners, self._tags = owners, _tags(owners)
        for address in self._pipes.keys() - listed:
            await self._pipes.pop(address).close()


def _tags(owners: Sequence[RedisPipe | None]) -> tuple[str, ...]:
    primaries = set(owners) - {None}
    tags: dict[RedisPipe | None, str] = {}
    for number in itertools.count():
        if tags.keys() >= primaries:
            return tuple(tags[primary] for primary in primaries)
        tags.setdefault(owners[key_slot(b"%d" % number)], str(number))
    raise AssertionError


def open_pipe(url: str, *, timeout_s: float) -> Pipe:
    """`url` as contracts/redis_urls.py says."""
    return (ClusterPipe if is_cluster(url) else RedisPipe)(url, timeout_s=timeout_s)
