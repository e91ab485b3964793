"""A real agent as a process of its own, in front of the fake engine instead of vLLM."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import httpx
import psutil
import yaml

from contracts.engine import EngineLease
from store import redis_names
from store.redis_clients import blocking_redis
from tests.processes import ROOT, Process, free_port, python

STAND_IN = Path(__file__).with_name("stand_in")
MODEL = "tiny-model"
Value = TypeVar("Value")


class AgentProcess:
    """Serves `tiny-model`, whose weights are an empty folder. `settings` are FLYWHEEL_… variables."""

    def __init__(
        self,
        folder: Path,
        *,
        redis_url: str,
        database_url: str,
        artifacts_url: str,
        model: str = MODEL,
        places: int = 32,
        **settings: str,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.weights_dir = folder / "models"
        self._redis_url = redis_url
        environment = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{STAND_IN}",
            "FLYWHEEL_REDIS_URL": redis_url,
            "FLYWHEEL_DATABASE_URL": database_url,
            "FLYWHEEL_ARTIFACTS_URL": artifacts_url,
            "FLYWHEEL_ENGINE__CATALOGUE": str(_catalogue(folder, places)),
            "FLYWHEEL_ENGINE__WEIGHTS_DIR": str(self.weights_dir),
            "FLYWHEEL_ENGINE__PORT": str(self.port),
            "FLYWHEEL_ENGINE__LEASE_TTL_S": "1.5",
            **settings,
        }
        self.process = Process(
            python("-m", "inference.agent", *([model] if model else [])),
            log=folder / "agent.log",
            environment=environment,
        )

    def lease(self) -> EngineLease | None:
        with blocking_redis(self._redis_url) as redis:
            for engine in redis.smembers(redis_names.ENGINES):
                if (raw := redis.get(redis_names.lease(engine.decode()))) is not None:
                    return EngineLease.model_validate_json(raw)
        return None

    def wait_for_lease(self, wanted: Callable[[EngineLease], bool] = lambda _: True) -> EngineLease:
        return self.wait_for(lambda: lease if (lease := self.lease()) is not None and wanted(lease) else None)

    def wait_for(self, look: Callable[[], Value | None], *, timeout_s: float = 60.0) -> Value:
        """What `look` returns once it is something. Raises AssertionError with the end of the log."""
        deadline = monotonic() + timeout_s
        while monotonic() < deadline:
            if found := look():
                return found
            sleep(0.02)
        raise AssertionError(f"It did not come to that:\n{self.process.log.read_text()[-4000:]}")

    def engine(self) -> psutil.Process:
        """The process that the agent started."""
        return self.wait_for(lambda: next(iter(psutil.Process(self.process.pid).children()), None))

    def send_signal(self, number: int) -> None:
        psutil.Process(self.process.pid).send_signal(number)

    def loaded_adapters(self) -> list[str]:
        """What the engine itself says."""
        cards = httpx.get(f"{self.url}/v1/models").json()["data"]
        return [card["id"] for card in cards if card["parent"] is not None]

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.process.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


def _catalogue(folder: Path, places: int) -> Path:
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "config.json").write_text("{}")
    model = {
        "name": MODEL,
        "task": "generate",
        "licence": "MIT",
        "context_length": 512,
        "source": {"kind": "folder", "path": str(weights)},
        "engine": {"max_num_seqs": 16, "max_loras": 1, "max_cpu_loras": places},
    }
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text(yaml.safe_dump({"models": [model]}))
    return catalogue
