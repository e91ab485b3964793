"""Admission by itself, without a gateway around it, over a real Valkey or a cluster."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis import Redis

from contracts.keys import ApiKey
from contracts.limits import Limits
from contracts.models import ModelCard
from contracts.settings import LimitSettings
from gateway.limits.admission import Admission, AdmissionControl
from gateway.metrics import Metrics
from gateway.redis_cluster import open_pipe
from gateway.relay.sse import Usage
from store import redis_names

TENANT = "acme"
CARD = ModelCard(
    name="model",
    kind="base",
    task="generate",
    weights="/nowhere",
    digest="sha256:0",
    context_length=2048,
    input_price=0.5,
    output_price=2.0,
    created_at=1,
)
NANOS = 10**9


def api_key(key_id: str = "key", *, tenant: Limits | None = None, **limits: Any) -> ApiKey:
    return ApiKey(
        id=key_id,
        tenant=TENANT,
        name="test",
        hint="",
        scopes=frozenset({"inference"}),
        tenant_limits=tenant or Limits(),
        created_at=1,
        **limits,
    )


@asynccontextmanager
async def admission_control(redis_url: str, *, timeout_s: float = 2.0, **settings: Any) -> AsyncIterator["Control"]:
    """As a gateway has it: with its background work, until the end of the block."""
    pipe = open_pipe(redis_url, timeout_s=timeout_s)
    control = AdmissionControl(pipe, LimitSettings(**settings), Metrics())
    work = asyncio.create_task(control.run())
    yield Control(control)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    await control.flush()
    await pipe.close()


class Control:
    """Asks with the fewest words. `tokens` are of the completion, for which a million costs 2."""

    def __init__(self, control: AdmissionControl) -> None:
        self._control = control

    async def admit(self, key: ApiKey, tokens: int = 0, *, digest: str | None = None) -> Admission:
        return await self._control.admit(key, CARD, prompt_tokens=0, completion_tokens=tokens, cache_digest=digest)

    def settle(self, admission: Admission, used: int | None = None) -> None:
        """None: it is not known."""
        self._control.settle(admission, None if used is None else Usage(0, used, used))

    async def run(self, key: ApiKey, tokens: int, *, used: int | None) -> Admission:
        """A request from its admission until Redis knows of its end."""
        admission = await self.admit(key, tokens)
        self.settle(admission, used)
        await self.flush()
        return admission

    async def flush(self) -> None:
        await self._control.flush()


def spent(redis_url: str, owner: str = "key") -> tuple[int, int, int, int]:
    """Tokens and billionths of money of the day, then of the month; an owner of "" is the tenant."""
    with Redis.from_url(redis_url) as redis:
        state = redis.get(redis_names.budgets(TENANT, owner))
    assert isinstance(state, bytes)
    _, *day, _, tokens, nanos = struct.unpack("<6d", state)
    return int(day[0]), int(day[1]), int(tokens), int(nanos)


def leases(redis_url: str, owner: str = "key") -> int:
    with Redis.from_url(redis_url) as redis:
        return redis.zcard(redis_names.concurrency_leases(TENANT, owner))
