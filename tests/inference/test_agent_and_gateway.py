"""More adapters than an engine holds, asked for through a real gateway and loaded by a real agent."""

import asyncio
import json
from pathlib import Path

from redis import Redis

from contracts.invalidation import Invalidation
from store import redis_names
from store.models import ModelRepository
from tests.gateway.conftest import CHAT, chat_body, model_card
from tests.gateway_process import GatewayProcess
from tests.inference.agent_process import MODEL


async def test_each_request_waits_for_its_adapter_and_nobody_sees_an_error(
    gateway: GatewayProcess, redis_url: str, start_agent, tmp_path: Path
):
    agent = start_agent(
        places=2,
        FLYWHEEL_DATABASE_URL=gateway.settings["FLYWHEEL_DATABASE_URL"],
        FLYWHEEL_ARTIFACTS_URL=gateway.settings["FLYWHEEL_ARTIFACTS_URL"],
        FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S="0.3",
    )
    names = [f"ft:{MODEL}:{at}" for at in range(4)]
    register(gateway, names, tmp_path / "adapter", redis_url)
    agent.wait_for_lease(lambda lease: len(lease.adapters) == 2)
    async with gateway.client(timeout=40) as client:
        for number in range(2):
            bodies = [chat_body(f"round {number}", model=name, max_tokens=2) for name in names]
            answers = await asyncio.gather(*(client.post(CHAT, json=body) for body in bodies))
            assert [(one.status_code, one.json().get("model")) for one in answers] == [(200, name) for name in names]
            assert len(agent.loaded_adapters()) <= 2


def register(gateway: GatewayProcess, names: list[str], folder: Path, redis_url: str) -> None:
    """Adapters that share their files, so that each has a digest and a place in the store."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    digest = gateway.artifacts.upload_folder(folder, "models/shared")
    models = ModelRepository(gateway.database)
    for at, name in enumerate(names):
        stored = {"weights": "models/shared", "digest": digest}
        models.put(model_card(name, kind="adapter", parent=MODEL, created_at=at, **stored))
    with Redis.from_url(redis_url) as redis:
        redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="model", id="").model_dump_json())
