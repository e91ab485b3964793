"""Engines without a network, for what chooses among them."""

import pytest

from contracts.engine import EngineLease, EngineLoad
from contracts.openai import ChatCompletionRequest, ChatMessage
from gateway.relay.upstream import Upstream
from gateway.routing.engine import Engine
from gateway.routing.request import RoutingRequest

BASE = "base-model"
CAPACITY = 64


def engine(number: int, *, kv_cache_tokens: int = 0, **fields: object) -> Engine:
    defaults: dict[str, object] = {
        "engine": f"engine-{number}",
        "url": f"http://127.0.0.1:{9000 + number}",
        "model": BASE,
        "task": "generate",
        "capacity": CAPACITY,
        "context_length": 2048,
        "load": EngineLoad(kv_cache_tokens=kv_cache_tokens),
    }
    lease = EngineLease.model_validate(defaults | fields)
    return Engine(lease, Upstream(lease.url, connect_timeout_s=1, idle_timeout_s=1, max_connections=8))


def engines(count: int, **fields: object) -> list[Engine]:
    return [engine(number, **fields) for number in range(count)]


def occupy(chosen: Engine, requests: int) -> None:
    for _ in range(requests):
        chosen.occupancy.begin()


def chat(*contents: str, model: str = BASE, session: str | None = None) -> RoutingRequest:
    roles = ("system", *(("user", "assistant") * len(contents)))
    messages = [ChatMessage(role=role, content=text) for role, text in zip(roles, contents, strict=False)]
    return RoutingRequest(model, ChatCompletionRequest(model=model, messages=messages), session)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
