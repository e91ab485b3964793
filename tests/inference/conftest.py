"""Agents and adapters for the tests of the engine."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.artifacts import ArtifactStore
from store.database import Database
from store.models import ModelRepository
from tests.inference.agent_process import MODEL, AgentProcess


@pytest.fixture
def models(database: Database) -> ModelRepository:
    return ModelRepository(database)


@pytest.fixture
def start_agent(
    redis_url: str, database: Database, artifacts: ArtifactStore, tmp_path: Path
) -> Iterator[Callable[..., AgentProcess]]:
    """`start_agent(FLYWHEEL_…="…", places=…, model=…)`: a real agent on the test's own database and artifacts."""
    started: list[AgentProcess] = []

    def start(**settings: Any) -> AgentProcess:
        agent = AgentProcess(
            tmp_path / f"agent-{len(started)}",
            redis_url=settings.pop("FLYWHEEL_REDIS_URL", redis_url),
            database_url=settings.pop("FLYWHEEL_DATABASE_URL", f"sqlite:///{tmp_path}/flywheel.db"),
            artifacts_url=settings.pop("FLYWHEEL_ARTIFACTS_URL", f"file://{tmp_path}/artifacts"),
            **settings,
        )
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.process.stop()


class AdapterMaker:
    """Registers adapters as a worker does when a job has succeeded."""

    def __init__(self, models: ModelRepository, artifacts: ArtifactStore, redis_url: str, folder: Path) -> None:
        self._models, self._artifacts, self._redis_url, self._folder = models, artifacts, redis_url, folder

    def __call__(self, name: str, *, announce: bool = False, **fields: Any) -> ModelCard:
        source = self._folder / "adapter-sources" / name
        source.mkdir(parents=True, exist_ok=True)
        config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL, **fields.pop("config", {})}
        (source / "adapter_config.json").write_text(json.dumps(config))
        (source / "adapter_model.safetensors").write_bytes(name.encode())
        card = ModelCard(
            **{
                "name": name,
                "kind": "adapter",
                "task": "generate",
                "parent": MODEL,
                "tenant": "acme",
                "weights": f"models/{name}",
                "digest": self._artifacts.upload_folder(source, f"models/{name}"),
                "context_length": 512,
                "created_at": int(time.time()),
            }
            | fields
        )
        self._models.put(card)
        if announce:
            self.announce(name)
        return card

    def damage(self, card: ModelCard) -> None:
        self._artifacts.write(f"{card.weights}/adapter_model.safetensors", io.BytesIO(b"other bytes"))

    def delete(self, card: ModelCard) -> None:
        self._models.delete(card.name, tenant="acme")
        self.announce(card.name)

    def announce(self, name: str) -> None:
        with Redis.from_url(self._redis_url) as redis:
            redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="model", id=name).model_dump_json())


@pytest.fixture
def adapter(models: ModelRepository, artifacts: ArtifactStore, redis_url: str, tmp_path: Path) -> AdapterMaker:
    """`adapter("ft:…")` registers an adapter of the agent's model; `announce=True` tells the agent at once."""
    return AdapterMaker(models, artifacts, redis_url, tmp_path)
