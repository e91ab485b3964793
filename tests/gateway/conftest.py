"""A gateway in front of a fake engine, ready to answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from redis import Redis

from contracts.invalidation import Invalidation
from contracts.models import ModelCard
from store import redis_names
from store.models import ModelRepository
from tests.conftest import LeaseGiver
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway_process import GatewayProcess

MODEL = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"
CHAT = "/v1/chat/completions"
SHARED_BY_GATEWAYS = ("FLYWHEEL_DATABASE_URL", "FLYWHEEL_CACHE__MAX_ENTRY_BYTES")


def model_card(name: str = MODEL, **fields: object) -> ModelCard:
    defaults = {
        "kind": "base",
        "task": "generate",
        "weights": "/nowhere",
        "digest": f"sha256:{name}",
        "context_length": 2048,
        "created_at": 1,
    }
    return ModelCard.model_validate({"name": name, **defaults, **fields})


def embedder_card() -> ModelCard:
    return model_card(EMBEDDER, task="embed", context_length=256, on_demand=True)


def chat_body(prompt: str = "Hello", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8, **fields}


def wait_until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


@dataclass(frozen=True)
class Serving:
    gateway: GatewayProcess
    engine: FakeEngineProcess

    def register(self, redis, *cards: ModelCard) -> None:
        for card in cards:
            ModelRepository(self.gateway.database).put(card)
        redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="model", id="").model_dump_json())

    def models(self) -> dict[str, str]:
        """Names and states of all models."""
        key = self.gateway.new_key()
        answer = httpx.get(f"{self.gateway.base_url}/models", headers={"authorization": f"Bearer {key.secret}"})
        return {model["id"]: model["state"] for model in answer.json()["data"]}


@pytest.fixture
def serving(gateway: GatewayProcess, fake_engine: FakeEngineProcess, lease: LeaseGiver, redis_sync) -> Serving:
    serving = Serving(gateway, fake_engine)
    lease(fake_engine, model=MODEL)
    serving.register(redis_sync, model_card())
    wait_until(lambda: serving.models().get(MODEL) == "live")
    return serving


@pytest.fixture
def embedder(
    serving: Serving, start_fake_engine: Callable[..., FakeEngineProcess], lease: LeaseGiver, redis_sync
) -> FakeEngineProcess:
    """An engine beside the one that generates, whose vectors are near each other as their texts share words."""
    engine = start_fake_engine(model=EMBEDDER, context_length=256)
    lease(engine, task="embed")
    serving.register(redis_sync, embedder_card())
    wait_until(lambda: serving.models().get(EMBEDDER) == "live")
    return engine


@pytest.fixture
def second(serving: Serving, _gateways: Callable[..., GatewayProcess]) -> GatewayProcess:
    """Another gateway over the same keys, models and engines."""
    settings = {name: value for name, value in serving.gateway.settings.items() if name in SHARED_BY_GATEWAYS}
    gateway = _gateways(settings)
    wait_until(lambda: Serving(gateway, serving.engine).models().get(MODEL) == "live")
    return gateway


@pytest.fixture
def redis_sync(redis_url: str):
    with Redis.from_url(redis_url) as client:
        yield client
