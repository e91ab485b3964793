"""Every gateway is replaced under load, and no request fails; behind a balancer that knows no more than readiness."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from store.models import ModelRepository
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(240)

PROBE_EVERY_S = 0.2
DRAIN_S = 1.5
CLIENTS = 6


@dataclass
class Balancer:
    """Sends to gateways in turn, those that were ready when it looked last. It retries nothing, and keeps connections
    open as clients and proxies do.
    """

    secret: str
    gateways: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    ready: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)

    def add(self, gateway: GatewayProcess) -> None:
        self.gateways[gateway.url] = gateway.client(self.secret)

    async def probe(self) -> None:
        for url, client in self.gateways.items():
            ready = await _is_ready(client)
            if ready and url not in self.ready:
                self.ready.append(url)
            elif not ready and url in self.ready:
                self.ready.remove(url)

    async def probe_for_ever(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(PROBE_EVERY_S)

    async def ask_for_ever(self) -> None:
        while True:
            await self.ask(stream=next(self.numbers) % 2 == 0)

    async def ask(self, *, stream: bool) -> None:
        url = self.ready[next(self._turns) % len(self.ready)]
        body = chat_body(f"Question {next(self.numbers)}", stream=stream)
        try:
            answer = await self.gateways[url].post(CHAT, json=body)
        except httpx.TransportError as error:
            self.failed.append(f"{url}: {error!r}")
            return
        whole = answer.text.endswith("data: [DONE]\n\n") if stream else "choices" in json.loads(answer.text)
        if answer.status_code == 200 and whole:
            self.answered[url] += 1
        else:
            self.failed.append(f"{url}: {answer.status_code} {answer.text[-200:]}")


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready", timeout=1)).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def start(start_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> Callable[[], GatewayProcess]:
    """Gateways over one database and one artifact store."""
    return lambda: start_gateway(
        FLYWHEEL_DATABASE_URL=f"sqlite:///{tmp_path}/flywheel.db",
        FLYWHEEL_ARTIFACTS_URL=f"file://{tmp_path}/artifacts",
        FLYWHEEL_GATEWAY__DRAIN_S=str(DRAIN_S),
        FLYWHEEL_LIMITS__EDGE_REQUESTS_PER_MINUTE="6000",
    )


@pytest.mark.long  # a balancer that is late to look, on a busy machine, sends to a gateway that is gone
async def test_a_rolling_restart_fails_no_request(
    start: Callable[[], GatewayProcess], fake_engine: FakeEngineProcess, lease: LeaseGiver
) -> None:
    gateways = [await asyncio.to_thread(start) for _ in range(4)]
    ModelRepository(gateways[0].database).put(model_card())
    await asyncio.to_thread(lease, fake_engine, model=MODEL)
    fake_engine.behaviour(time_between_tokens_s=0.02)
    balancer = Balancer(gateways[0].new_key(requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000).secret)
    for gateway in gateways:
        async with gateway.client(balancer.secret) as client:
            while (await client.get(f"/v1/models/{MODEL}")).json().get("state") != "live":
                await asyncio.sleep(0.1)
    old, new = gateways[:2], gateways[2:]
    for gateway in old:
        balancer.add(gateway)
    await balancer.probe()

    async with asyncio.TaskGroup() as load:
        work = [load.create_task(balancer.ask_for_ever()) for _ in range(CLIENTS)]
        work.append(load.create_task(balancer.probe_for_ever()))
        for leaving, coming in zip(old, new, strict=True):
            balancer.add(coming)
            await _until(lambda url=coming.url: balancer.answered[url] > 0)
            await asyncio.to_thread(leaving.stop)
        await asyncio.sleep(0.5)
        for task in work:
            task.cancel()

    assert balancer.failed == []
    assert len(balancer.answered) == 4
    assert sum(balancer.answered.values()) > 100
    assert set(balancer.ready) == {gateway.url for gateway in new}


def test_while_it_drains_a_gateway_answers_and_says_that_it_is_not_ready(
    start: Callable[[], GatewayProcess], fake_engine: FakeEngineProcess, lease: LeaseGiver
) -> None:
    gateway = start()
    ModelRepository(gateway.database).put(model_card())
    lease(fake_engine, model=MODEL)
    headers = {"authorization": f"Bearer {gateway.new_key().secret}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        wait_until(lambda: client.get(f"/v1/models/{MODEL}").json().get("state") == "live")
        before = [client.get("/health/ready"), client.post(CHAT, json=chat_body())]
        gateway.process.terminate()
        told_at = time.monotonic()
        wait_until(lambda: client.get("/health/ready").status_code == 503)
        during = [client.get("/health/ready"), client.post(CHAT, json=chat_body("Once more"))]
        wait_until(lambda: gateway.process.exit_code is not None)

    assert [answer.status_code for answer in (*before, *during)] == [200, 200, 503, 200]
    assert [answer.headers.get("connection") for answer in (*before, *during)] == [None, None, "close", "close"]
    assert time.monotonic() - told_at >= DRAIN_S


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
