"""The agent: leases, adapters, restart and drain. vLLM's place is taken by the fake engine, which starts in moments;
the end-to-end tests run the agent with vLLM."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from contracts.engine import EngineLease
from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from contracts.settings import EngineSettings, Settings
from inference.adapters import AdapterSet
from inference.agent import Agent
from inference.catalogue import Catalogue
from inference.command import EngineCommand
from inference.copies import LocalCopies, copy_of
from inference.load import parse_adapters_in_flight, parse_load
from store.artifacts import ArtifactStore
from store.database import Database
from store.demand import DemandStore
from store.leases import LeaseStore
from store.models import ModelRepository
from store.news import publish_news
from tests.gateway.conftest import model_card
from tests.processes import free_port, python

MODEL = Catalogue.load(None).require("smollm2-135m-instruct")
ADAPTER = f"ft:{MODEL.name}:acme:sea:1"


class RunningAgent:
    """An agent with its engine, as a task of the test."""

    def __init__(self, redis: Redis, database: Database, artifacts: ArtifactStore, weights_dir: Path) -> None:
        port = free_port()
        settings = Settings(engine=EngineSettings(port=port, lease_ttl_s=1.5, drain_timeout_s=5))
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=5)
        self.models = ModelRepository(database)
        self.models.put(model_card(MODEL.name))
        self.redis = redis
        self.leases = LeaseStore(redis)
        self.stop = asyncio.Event()
        copies = LocalCopies(weights_dir, self.models)
        arguments = python("-m", "tests.fake_engine", "--port", str(port), "--model", MODEL.name)
        self._agent = Agent(
            MODEL,
            EngineCommand(tuple(arguments), os.environ),
            settings,
            leases=self.leases,
            adapters=AdapterSet(
                MODEL.name,
                self.models,
                artifacts,
                DemandStore(redis),
                copies,
                self.client,
                places=MODEL.engine.max_cpu_loras,
                max_rank=MODEL.engine.max_lora_rank,
                residence_s=settings.engine.adapter_residence_s,
            ),
            copies=copies,
            models=self.models,
            redis=redis,
            client=self.client,
        )
        self.task = asyncio.create_task(self._agent.run(self.stop))

    async def lease(self, *, adapters: int = 0, draining: bool = False) -> EngineLease:
        """The agent's lease, once it is so."""
        async with asyncio.timeout(15):
            while True:
                for lease in await self.leases.alive():
                    if len(lease.adapters) == adapters and lease.draining == draining:
                        return lease
                await asyncio.sleep(0.05)

    async def no_lease(self) -> None:
        async with asyncio.timeout(5):
            while await self.leases.alive():
                await asyncio.sleep(0.02)

    async def register(self, artifacts: ArtifactStore, folder: Path, name: str = ADAPTER, digest: str | None = None):
        folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL.name}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / "adapter_model.safetensors").write_bytes(name.encode())
        found = artifacts.upload_folder(folder, f"models/{folder.name}")
        self.models.put(
            ModelCard(
                name=name,
                kind="adapter",
                task="generate",
                parent=MODEL.name,
                tenant="acme",
                weights=f"models/{folder.name}",
                digest=digest or found,
                context_length=2048,
                created_at=1,
            )
        )
        await publish_news(self.redis, Invalidation(kind="model", id=name))

    async def engine_pid(self) -> int:
        process = await asyncio.create_subprocess_exec(
            "pgrep", "-f", f"fake_engine --port {self.url.rpartition(':')[2]} ", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return int(output.split()[0])


@pytest.fixture
async def agent(
    redis: Redis, database: Database, artifacts: ArtifactStore, tmp_path: Path
) -> AsyncIterator[RunningAgent]:
    running = RunningAgent(redis, database, artifacts, tmp_path / "weights")
    yield running
    running.stop.set()
    await running.task
    await running.client.aclose()


async def test_a_healthy_engine_has_a_lease_that_is_renewed(agent: RunningAgent):
    lease = await agent.lease()
    await asyncio.sleep(2)  # longer than the lease's life

    assert (lease.model, lease.url, lease.capacity) == (MODEL.name, agent.url, MODEL.engine.max_num_seqs)
    assert await agent.leases.alive() != []


async def test_an_adapter_is_loaded_at_news_and_unloaded_when_it_is_deleted(
    agent: RunningAgent, artifacts: ArtifactStore, tmp_path: Path
):
    await agent.lease()
    await agent.register(artifacts, tmp_path / "one")
    loaded = await agent.lease(adapters=1)
    served = (await agent.client.get("/v1/models")).json()

    agent.models.delete(ADAPTER, tenant="acme")
    await publish_news(agent.redis, Invalidation(kind="model", id=ADAPTER))
    await agent.lease(adapters=0)

    assert loaded.adapters == (ADAPTER,)
    assert ADAPTER in [model["id"] for model in served["data"]]


async def test_a_copy_goes_with_its_model_and_those_of_other_registries_stay(
    agent: RunningAgent, artifacts: ArtifactStore, tmp_path: Path
):
    await agent.lease()
    foreign = tmp_path / "weights" / "adapters" / "sha256-of-another-stack"
    foreign.mkdir(parents=True)
    await agent.register(artifacts, tmp_path / "one")
    await agent.register(artifacts, tmp_path / "two", name=f"{ADAPTER}-two")
    await agent.lease(adapters=2)
    one, two = (
        copy_of(agent.models.get(name).digest, tmp_path / "weights", "adapters") for name in (ADAPTER, f"{ADAPTER}-two")
    )
    assert (one.is_dir(), two.is_dir()) == (True, True)

    agent.models.delete(ADAPTER, tenant="acme")
    await publish_news(agent.redis, Invalidation(kind="model", id=ADAPTER))
    await agent.lease(adapters=1)
    async with asyncio.timeout(10):
        while one.exists():
            await asyncio.sleep(0.05)

    assert (two.is_dir(), foreign.is_dir()) == (True, True)


async def test_a_damaged_adapter_is_left_out_and_the_others_are_served(
    agent: RunningAgent, artifacts: ArtifactStore, tmp_path: Path
):
    await agent.lease()
    await agent.register(artifacts, tmp_path / "damaged", name=f"{ADAPTER}-damaged", digest="sha256:" + "0" * 64)
    await agent.register(artifacts, tmp_path / "good")

    assert (await agent.lease(adapters=1)).adapters == (ADAPTER,)


async def test_a_killed_engine_loses_its_lease_at_once_and_comes_back_with_its_adapters(
    agent: RunningAgent, artifacts: ArtifactStore, tmp_path: Path
):
    await agent.lease()
    await agent.register(artifacts, tmp_path / "one")
    await agent.lease(adapters=1)

    os.kill(await agent.engine_pid(), signal.SIGKILL)
    await agent.no_lease()

    assert (await agent.lease(adapters=1)).adapters == (ADAPTER,)


async def test_a_stopped_engine_drains_first(agent: RunningAgent):
    await agent.lease()
    await agent.client.post("/_fake/behaviour", json={"tokens": 20, "time_between_tokens_s": 0.1})
    body = {"model": MODEL.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    answer = asyncio.create_task(agent.client.post("/v1/chat/completions", json=body))
    await asyncio.sleep(0.3)

    agent.stop.set()
    await agent.lease(draining=True)

    assert (await answer).status_code == 200
    await agent.no_lease()
    await agent.task
    with pytest.raises(httpx.ConnectError):
        await agent.client.get("/health")


def test_the_load_is_read_from_vllms_metrics():
    text = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""
    load = parse_load(text)

    assert (load.running, load.waiting, load.kv_cache_usage) == (5, 7, 0.25)


def test_of_all_series_that_vllm_ever_told_the_last_one_names_the_adapters_in_flight():
    told = [("ft:a,ft:b", "", 10.0), ("ft:b", "ft:c", 30.0), ("", "", 20.0)]
    text = "# TYPE vllm:lora_requests_info gauge\n" + "".join(
        f'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{running}",'
        f'waiting_lora_adapters="{waiting}"}} {at}\n'
        for running, waiting, at in told
    )
    assert parse_adapters_in_flight(text) == {"ft:b", "ft:c"}
    assert parse_adapters_in_flight("# TYPE other gauge\nother 1.0\n") == frozenset()


@pytest.mark.parametrize("turns", range(4))
async def test_news_in_the_very_moment_of_the_stop_does_not_hold_it_up(agent: RunningAgent, turns: int):
    await agent.lease()
    agent.stop.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    agent._agent._adapters_changed.set()

    async with asyncio.timeout(8):
        await agent.task
