"""Admission: the limits of a key and its tenant and the cache look-up, in one Redis round trip."""

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from contracts.errors import ServiceUnavailable
from contracts.keys import ApiKey
from contracts.models import ModelCard
from contracts.settings import LimitSettings
from gateway.limits.headers import HeaderList, standing_headers
from gateway.limits.leases import HeldLeases
from gateway.limits.local import LocalLimits
from gateway.limits.permits import PermitBook, Permits
from gateway.limits.plan import LimitPlan, LimitPlans
from gateway.limits.refusals import refusal
from gateway.metrics import Metrics
from gateway.redis_pipe import Pipe
from gateway.relay.sse import Usage
from store import redis_names

PROBE_PAUSE_S = 0.25
RENEWALS_PER_LEASE = 4
NANOS_PER_PRICE = 1000
"""A token at a price of 1 a million costs a millionth, a thousand billionths."""


@dataclass(slots=True, eq=False)
class Admission:
    """A request that may go on. `headers` are OpenAI's `x-ratelimit-*`; `cached` is the kept answer, if any.

    All but an answer from the cache must be settled.
    """

    headers: HeaderList
    cached: bytes | None
    plan: LimitPlan
    card: ModelCard
    tokens: int
    nanos: int
    admitted_ms: int
    lease: bytes
    counted_here: LocalLimits | None = None
    permits: Permits | None = None
    """Of which this request used one up."""


class AdmissionControl:
    """Rates, concurrency and budgets (`gateway/limits/__init__.py` says what each promises).

    While Redis is away nobody waits for it: each gateway counts rates and concurrency by itself and charges no budgets,
    or refuses with 503, as `limits.without_redis` says. A probe finds out when it is back.
    """

    def __init__(self, pipe: Pipe, settings: LimitSettings, metrics: Metrics) -> None:
        self._pipe = pipe
        self._admit = pipe.script(_lua("buckets", "budgets", "admit"))
        self._settle = pipe.script(_lua("buckets", "budgets", "settle"))
        self._permits = PermitBook(pipe.script(_lua("buckets", "lease")), self._settle, failed=self._lost)
        self._plans = LimitPlans(settings)
        self._leases = HeldLeases(pipe, _lua("renew"), lease_s=settings.concurrency_lease_s)
        self._renewal_s = settings.concurrency_lease_s / RENEWALS_PER_LEASE
        self._refuses = settings.without_redis == "refuse"
        self._away = asyncio.Event()
        self._local = LocalLimits()
        self._metrics = metrics
        self._log = structlog.get_logger(__name__)

    async def admit(
        self, key: ApiKey, card: ModelCard, *, prompt_tokens: int, completion_tokens: int, cache_digest: str | None
    ) -> Admission:
        """One round trip, or none where a permit was taken for it already.

        The tokens are an estimate; of an answer that costs no engine's work, both are 0.

        Raises LimitReached, BudgetUsedUp, and ServiceUnavailable where Redis is away and must not be.
        """
        plan = self._plans.of(key)
        tokens = prompt_tokens + completion_tokens
        nanos = price(card, prompt_tokens, completion_tokens) if plan.spends_money else 0
        if self._away.is_set():
            return self._admit_here(plan, card, tokens)
        if plan.lends and cache_digest is None and (permits := self._permits.take(plan, tokens)) is not None:
            headers = standing_headers(plan, *permits.standing)
            return Admission(headers, None, plan, card, tokens, nanos, permits.taken_ms, b"", permits=permits)
        lease = self._leases.new_id() if plan.lease_names and tokens else b""
        names: tuple[str, ...] = plan.names
        if cache_digest is not None:
            names = (*names, redis_names.cached_answer(key.tenant, cache_digest))
        try:
            reply = await self._admit(names, (plan.packed, tokens, nanos, lease, b"1" if cache_digest else b""))
        except RedisError as error:
            self._lost(error)
            return self._admit_here(plan, card, tokens)
        refused_by, wait_ms, now_ms, *left, cached = reply
        headers = standing_headers(plan, *left)
        if refused_by:
            raise refusal(refused_by, plan, wait_ms=wait_ms, now_ms=now_ms, standing=headers)
        if lease and cached is None:
            self._leases.hold(plan.lease_names, lease)
        return Admission(headers, cached, plan, card, tokens, nanos, now_ms, lease)

    def settle(self, admission: Admission, usage: Usage | None) -> None:
        """Charges what was used, ends the lease, gives back the rest. None: it is not known; all reserved was used.

        Nobody waits for the round trip, and it is saved where nothing is left to do.
        """
        plan, tokens, nanos = admission.plan, admission.tokens, admission.nanos
        if usage is not None:
            tokens = usage.prompt_tokens + (usage.completion_tokens or 0)
            nanos = price(admission.card, usage.prompt_tokens, usage.completion_tokens or 0) if plan.spends_money else 0
        if admission.counted_here is not None:
            admission.counted_here.settle(plan, reserved=admission.tokens, used=tokens)
            return
        if admission.permits is not None:
            self._permits.settle(admission.permits, reserved=admission.tokens, used=tokens)
            return
        if admission.lease:
            self._leases.drop(plan.lease_names, admission.lease)
        if self._away.is_set() or (tokens == admission.tokens and not plan.settles_always):
            return
        amounts = struct.pack(
            "<6d", admission.tokens, tokens, admission.nanos, nanos, admission.admitted_ms, len(plan.lease_names)
        )
        self._settle.send(plan.names, (plan.rates, amounts, admission.lease), self._lost)

    async def run(self) -> None:
        """Renews the leases of the requests in flight, and asks for Redis while it is away, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renewal_s):
                    await self._away.wait()
            if self._away.is_set():
                await self._wait_for_redis()
            try:
                await self._leases.renew()
            except RedisError as error:
                self._lost(error)

    async def flush(self) -> None:
        """Gives back what is not used. Waits until Redis has it, which takes commands in their order."""
        self._permits.close()
        with suppress(RedisError):
            await self._write_everywhere()

    def _admit_here(self, plan: LimitPlan, card: ModelCard, tokens: int) -> Admission:
        if self._refuses:
            raise ServiceUnavailable("Limits cannot be checked at the moment.", retry_after_s=1)
        refused_by, wait_ms, now_ms, *left = self._local.admit(plan, tokens)
        headers = standing_headers(plan, *left)
        if refused_by:
            raise refusal(refused_by, plan, wait_ms=wait_ms, now_ms=now_ms, standing=headers)
        return Admission(headers, None, plan, card, tokens, 0, now_ms, b"", counted_here=self._local)

    def _lost(self, error: BaseException) -> None:
        self._metrics.redis_errors.labels("admission").inc()
        if not self._away.is_set():
            self._away.set()
            self._metrics.limits_local.set(1)
            self._log.warning("limits without redis", reason=type(error).__name__, refusing=self._refuses)

    async def _wait_for_redis(self) -> None:
        """A cluster is back when all its primaries are: a key is not counted now here, now there."""
        while True:
            try:
                await self._write_everywhere()
                break
            except RedisError:
                await asyncio.sleep(PROBE_PAUSE_S)
        self._local = LocalLimits()
        self._away.clear()
        self._metrics.limits_local.set(0)
        self._log.info("limits with redis again")

    async def _write_everywhere(self) -> None:
        """Raises RedisError, once all have answered or failed. A Redis that is full or read-only answers reads.

        What is written has expired long ago, and is never there for anybody.
        """
        names = [redis_names.admission_probe(tag) for tag in self._pipe.tags]
        writes = [self._pipe.call("SET", name, 1, "PXAT", 1) for name in names]
        await asyncio.wait(writes)
        for write in writes:
            write.result()


def price(card: ModelCard, prompt_tokens: int, completion_tokens: int) -> int:
    """In billionths of the currency's unit, to which it is rounded."""
    cost = prompt_tokens * (card.input_price or 0) + completion_tokens * (card.output_price or 0)
    return round(cost * NANOS_PER_PRICE)


def _lua(*parts: str) -> str:
    folder = Path(__file__).parent
    return "\n".join((folder / f"{part}.lua").read_text() for part in parts)
