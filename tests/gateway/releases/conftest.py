"""A gateway with two models, an alias for one of them, and controllers of releases."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.keys import ALL_SCOPES
from store.releases import ReleaseRepository
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway_process import GatewayProcess
from tests.processes import Process, python

ALIASES, RELEASES = "/v1/flywheel/aliases", "/v1/flywheel/releases"
ALIAS, CANDIDATE = "assistant", "candidate"


def short_policy(*shares: float, **fields: Any) -> dict[str, Any]:
    """Stages that end once twenty requests were answered well enough."""
    stages = [{"share": share, "min_requests": 20, "min_duration_s": 0, "timeout_s": 60} for share in shares or (0.5,)]
    return {"canary": stages, "live": {"error_rate": {"max_increase": 0.3}}} | fields


@dataclass
class Releasing:
    """A tenant with an alias that stands for MODEL, and a candidate with an engine of its own."""

    serving: Serving
    candidate: FakeEngineProcess
    key: str
    tenant: str
    rows: ReleaseRepository
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=15))

    @property
    def gateway(self) -> GatewayProcess:
        return self.serving.gateway

    def client(self, gateway: GatewayProcess | None = None) -> httpx.AsyncClient:
        return (gateway or self.gateway).client(self.key)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Of the control plane."""
        headers = {"authorization": f"Bearer {self.key}"}
        return self.http.request(method, f"{self.gateway.url}{path}", headers=headers, **options)

    def start(self, **fields: Any) -> str:
        """The id of a new release."""
        wanted = {"alias": ALIAS, "candidate": CANDIDATE, "policy": short_policy()} | fields
        answer = self.call("POST", RELEASES, json=wanted)
        assert answer.status_code == 200, answer.text
        release: str = answer.json()["id"]
        return release

    def release(self, release: str) -> dict[str, Any]:
        answer = self.call("GET", f"{RELEASES}/{release}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def states(self, release: str) -> list[str]:
        """Where it has been, in order."""
        return [
            f"{move['state']}-{move['stage']}" if move["state"] == "canary" else move["state"]
            for move in self.release(release)["moves"]
        ]

    def put_in(self, release: str, state: str, stage: int = 0) -> None:
        """Moves it there, as a controller would, and waits until the gateway knows."""
        from contracts.releases import Move

        move = Move.model_validate({"state": state, "stage": stage, "reason": "a test"})
        assert self.rows.move(self.rows.get(release), move, actor="test") is not None

    async def ask(self, client: httpx.AsyncClient, user: str, **fields: Any) -> httpx.Response:
        return await client.post(CHAT, json=chat_body(user, model=ALIAS, user=user, **fields))


@pytest.fixture
def releasing(serving: Serving, start_fake_engine: Callable[..., Any], lease: Any, redis_sync: Any) -> Releasing:
    serving.register(redis_sync, model_card(CANDIDATE))
    engine = start_fake_engine(model=CANDIDATE)
    lease(engine)
    wait_until(lambda: serving.models().get(CANDIDATE) == "live")
    key = serving.gateway.new_key(scopes=ALL_SCOPES, requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000)
    ready = Releasing(serving, engine, key.secret, key.key.tenant, ReleaseRepository(serving.gateway.database))
    answer = ready.call("POST", ALIASES, json={"name": ALIAS, "model": MODEL})
    assert answer.status_code == 200, answer.text
    return ready


@pytest.fixture
def start_controller(serving: Serving, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Starts `python -m releases` over the gateway's database."""
    started: list[Process] = []

    def start() -> Process:
        environment = serving.gateway.settings | {"FLYWHEEL_RELEASES__INTERVAL_S": "0.1"}
        log = tmp_path / f"controller-{len(started)}.log"
        started.append(Process(python("-m", "releases"), log=log, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.stop()
