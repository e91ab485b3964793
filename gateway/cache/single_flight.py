"""Identical requests in flight share one generation, over all gateways (as Go's `singleflight`; RFC 9211,
2.6, calls them collapsed)."""

from collections.abc import Awaitable, Callable
from typing import Literal

import structlog
from redis.exceptions import RedisError

from gateway.background import Background
from gateway.cache.answers import AnswerCache
from gateway.cache.claims import LOOK_AGAIN_S, Claim, Claims
from gateway.cache.flight import RESULT_HEADER, Ending, Flight, LeadersExchange
from gateway.cache.kept import KeptAnswer
from gateway.cache.repeats import CacheUse
from gateway.cache.replay import replay
from gateway.metrics import Metrics
from gateway.relay.exchange import ClientDisconnected, Exchange

CacheResult = Literal["hit", "collapsed", "semantic", "miss", "bypass"]
Generate = Callable[[Exchange], Awaitable[KeptAnswer | None]]
"""Sends an answer to the exchange, and returns what may be kept of it."""


class SingleFlight:
    """Answers a request that found nothing kept.

    In one process the followers get the leader's answer as it comes, token by token. Over several gateways one of them
    generates, by a claim in Redis, and the others replay what it kept. When a leader dies or its client leaves with
    nobody following, another one leads; when its answer fails or is not kept, each follower generates for itself,
    since waiting in line would take longer.

    Costs one round trip for a request that leads or follows another gateway, none to follow in this process. While
    Redis is away requests are shared within the process only.
    """

    def __init__(self, cache: AnswerCache, claims: Claims, background: Background, metrics: Metrics) -> None:
        self._cache = cache
        self._claims = claims
        self._background = background
        self._metrics = metrics
        self._flights: dict[tuple[str, str], Flight] = {}
        self._log = structlog.get_logger(__name__)

    async def answer(
        self, exchange: Exchange, tenant: str, use: CacheUse, generate: Generate, *, leads: bool
    ) -> CacheResult:
        """Says where the answer came from, and tells it in `x-flywheel-cache`. Raises what `generate` raises.

        `leads` is false for a request that may end before its answer does, which would take others with it.
        """
        if not use.read:
            return await self._generate_alone(exchange, tenant, use, generate)
        name = (tenant, use.digest)
        while (flight := self._flights.get(name)) is not None and flight.joinable:
            ending = await flight.follow(exchange, result=b"collapsed")
            if exchange.finished:
                return "collapsed"
            if ending is Ending.UNSHARED:
                break
        if flight is None and leads:
            return await self._lead(exchange, tenant, use, generate)
        return await self._generate_alone(exchange, tenant, use, generate)

    async def _lead(self, exchange: Exchange, tenant: str, use: CacheUse, generate: Generate) -> CacheResult:
        flight = self._flights[tenant, use.digest] = Flight(self._cache.max_entry_bytes)
        leading = LeadersExchange(exchange, flight)
        ending, claim, answer = Ending.UNSHARED, None, None
        result: CacheResult = "miss"
        try:
            claim, waited = await self._claim(leading, tenant, use)
            kept = self._cache.open(tenant, use, claim.answer) if claim is not None and claim.answer else None
            if kept is not None:
                result = "collapsed" if waited else "hit"
                await replay(leading, kept, result=result.encode())
            else:
                if claim is not None:
                    leading.wanted_elsewhere = claim.is_followed
                exchange.headers.append((RESULT_HEADER, result.encode()))
                answer = await generate(leading)
        except ClientDisconnected:
            ending = Ending.VANISHED
            raise
        finally:
            self._land(flight, tenant, use, claim, answer, ending)
            await leading.end(ending)
        if leading.gone:
            raise ClientDisconnected
        return result

    async def _claim(self, leading: LeadersExchange, tenant: str, use: CacheUse) -> tuple[Claim | None, bool]:
        """Asks who generates until there is an answer or this process is to generate. No claim while Redis is away.

        The second value says whether another gateway was waited for.
        """
        waited = False
        try:
            claim = await self._claims.ask(tenant, use.digest, look=use.max_age_s is None)
            while claim.role == "follow":
                waited = True
                with self._claims.landing(tenant, use.digest) as landed:
                    claim = await self._claims.ask(tenant, use.digest, look=True)
                    if claim.role == "follow":
                        await leading.wait_for(landed, timeout_s=LOOK_AGAIN_S)
        except RedisError as error:
            self._fail("requests not shared", error)
            return None, waited
        return claim, waited

    async def _generate_alone(self, exchange: Exchange, tenant: str, use: CacheUse, generate: Generate) -> CacheResult:
        result: CacheResult = "miss" if use.read else "bypass"
        exchange.headers.append((RESULT_HEADER, result.encode()))
        claim = None
        if use.write:
            try:
                claim = await self._claims.epoch(tenant, use.digest)
            except RedisError as error:
                self._fail("answer will not be kept", error)
        answer = await generate(exchange)
        if answer is not None and claim is not None:
            self._background.start(self._keep(tenant, use, answer, claim))
        return result

    def _land(
        self,
        flight: Flight,
        tenant: str,
        use: CacheUse,
        claim: Claim | None,
        answer: KeptAnswer | None,
        ending: Ending,
    ) -> None:
        """A flight can be joined until its answer is kept, so that none falls between the two."""
        if claim is not None and answer is not None:
            self._background.start(self._keep(tenant, use, answer, claim, flight))
            return
        self._forget(tenant, use, flight)
        if claim is not None:
            self._background.start(self._claims.release(claim, shareable=ending is Ending.VANISHED))

    async def _keep(
        self, tenant: str, use: CacheUse, answer: KeptAnswer, claim: Claim, flight: Flight | None = None
    ) -> None:
        if await self._cache.keep(tenant, use, answer, claim):
            self._claims.landed(claim)
        else:
            await self._claims.release(claim, shareable=False)
        if flight is not None:
            self._forget(tenant, use, flight)

    def _forget(self, tenant: str, use: CacheUse, flight: Flight) -> None:
        if self._flights.get((tenant, use.digest)) is flight:
            del self._flights[tenant, use.digest]

    def _fail(self, what: str, error: RedisError) -> None:
        self._metrics.redis_errors.labels("claims").inc()
        self._log.warning(what, reason=type(error).__name__)
