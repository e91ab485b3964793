"""Which gateway generates the answer that several are asked for at once."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.metrics import Metrics
from gateway.redis_pipe import Argument, Pipe
from store import redis_names
from store.redis_clients import listen

FLIGHT_TTL_MS = 3000
RENEW_EVERY_S = 1.0
LOOK_AGAIN_S = 1.0
"""Who waits asks again that often, so that a leader's death, or lost news of a landing, holds nobody up for longer."""
UNSHARED_MS = 5000
RECONNECT_S = 0.5
SCRIPTS = Path(__file__).parent / "scripts"

Role = Literal["answered", "lead", "follow", "alone"]


@dataclass(eq=False, slots=True)
class Claim:
    """What a gateway was told when it asked who generates. `token` is empty where it does not lead.

    `epoch` is the cache's when the generation began: an answer begun before a clearing is not kept after it.
    """

    tenant: str
    digest: str
    role: Role
    epoch: bytes
    token: str = ""
    answer: bytes | None = None
    followed: bool = False
    """Another gateway waits for this one, as of the last renewal."""

    def is_followed(self) -> bool:
        return self.followed


class Claims:
    """Leadership over a generation, in Redis: a token that others cannot guess, and a few seconds to live.

    A leader that dies is succeeded within `FLIGHT_TTL_MS` + `LOOK_AGAIN_S`. One that only seems dead, and comes back
    to find another in its place, keeps nothing: its token no longer fits. A claim costs a round trip, and so does its
    end.
    """

    def __init__(self, pipe: Pipe, news_redis: Redis, metrics: Metrics) -> None:
        self._pipe = pipe
        self._news_redis = news_redis
        self._metrics = metrics
        self._claim, self._renew, self._release = (
            pipe.script((SCRIPTS / f"{name}.lua").read_text()) for name in ("claim", "renew", "release")
        )
        self._led: set[Claim] = set()
        self._waiting: dict[bytes, set[asyncio.Future[None]]] = {}
        self._log = structlog.get_logger(__name__)

    async def ask(self, tenant: str, digest: str, *, look: bool) -> Claim:
        """Who generates this answer; `look`: a kept one will do. Raises RedisError."""
        token = secrets.token_hex(16)
        names = [
            redis_names.cached_answer(tenant, digest),
            redis_names.flight(tenant, digest),
            redis_names.cache_epoch(tenant),
        ]
        role, epoch, *answer = await self._claim(names, [token, FLIGHT_TTL_MS, "1" if look else "0"])
        claim = Claim(tenant, digest, role.decode(), epoch, answer=answer[0] if answer else None)
        if claim.role == "lead":
            claim.token = token
            self._led.add(claim)
        return claim

    async def epoch(self, tenant: str, digest: str) -> Claim:
        """The right to keep an answer that nobody shares in while it is generated. Raises RedisError."""
        epoch = await self._pipe.call("GET", redis_names.cache_epoch(tenant))
        return Claim(tenant, digest, "alone", epoch or b"0")

    def landed(self, claim: Claim) -> None:
        """To be called when the answer was kept, which ends the claim in Redis too."""
        self._led.discard(claim)

    async def release(self, claim: Claim, *, shareable: bool) -> None:
        """Ends a claim without an answer. `shareable`: another one may lead; otherwise each generates for itself."""
        if claim not in self._led:
            return
        self._led.discard(claim)
        name = f"{claim.tenant} {claim.digest}"
        arguments: list[Argument] = [claim.token, redis_names.LANDINGS, name, 0 if shareable else UNSHARED_MS]
        with self._counted():
            await self._release([redis_names.flight(claim.tenant, claim.digest)], arguments)

    @contextlib.contextmanager
    def landing(self, tenant: str, digest: str) -> Iterator[asyncio.Future[None]]:
        """A future that news of the landing resolves."""
        name = f"{tenant} {digest}".encode()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(name, None)

    async def renew_forever(self) -> None:
        """Keeps the claims of this process alive until cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await asyncio.gather(*(self._renew_one(claim) for claim in list(self._led)))

    async def listen_forever(self) -> None:
        """Hears of landings until cancelled."""
        while True:
            with self._counted():
                async for name in listen(self._news_redis, redis_names.LANDINGS):
                    if name is not None:
                        self._wake(name)
            await asyncio.sleep(RECONNECT_S)

    def _wake(self, name: bytes) -> None:
        for future in self._waiting.get(name, ()):
            if not future.done():
                future.set_result(None)

    async def _renew_one(self, claim: Claim) -> None:
        with self._counted():
            name = redis_names.flight(claim.tenant, claim.digest)
            state = await self._renew([name], [claim.token, FLIGHT_TTL_MS])
            if state < 0:
                self._led.discard(claim)
            claim.followed = claim.followed or state == 1

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            self._metrics.redis_errors.labels("claims").inc()
            self._log.warning("claims interrupted", reason=type(error).__name__)
