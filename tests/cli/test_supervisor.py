"""The supervisor, over tiny real processes."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from cli.home import Home
from cli.supervisor.service import RestartPolicy, ServiceFailed
from cli.supervisor.state import StateFile, SupervisorState
from cli.supervisor.supervisor import Supervisor
from tests.cli.tiny import (
    DIES,
    HAS_A_CHILD_THAT_IGNORES_SIGTERM,
    IGNORES_SIGTERM,
    SLEEPS,
    lines,
    processes_of,
    tiny_service,
)

FAST = RestartPolicy(first_pause_s=0.05, longest_pause_s=0.2, short_life_s=60, most_failures=3)


@pytest.fixture
def states(tmp_path: Path) -> StateFile:
    return StateFile(Home(tmp_path), os.getpid())


@pytest.fixture
async def supervisor(states: StateFile, tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(states, FAST)
    yield supervisor
    await supervisor.stop()
    assert processes_of(tmp_path) == []


async def until(true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_service_is_up_once_it_is_ready(supervisor: Supervisor, states: StateFile, tmp_path: Path) -> None:
    await supervisor.start(tiny_service(tmp_path, "one", SLEEPS))
    state = SupervisorState.read(Home(tmp_path))
    assert state is not None
    assert (state.steps["one"].status, state.steps["one"].pid) == ("ready", processes_of(tmp_path)[0].pid)


async def test_a_killed_service_is_started_again(supervisor: Supervisor, states: StateFile, tmp_path: Path) -> None:
    await supervisor.start(tiny_service(tmp_path, "one", SLEEPS))
    first = states.step("one").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: states.step("one").status == "ready" and states.step("one").pid not in (None, first))
    assert states.step("one").restarts == 1


async def test_pauses_between_restarts_grow_and_end_in_failed(
    supervisor: Supervisor, states: StateFile, tmp_path: Path
) -> None:
    """The program is ready for a moment each time, then dies."""
    ready = tmp_path / "one.ready"
    ready.touch()
    dies = DIES.replace("print(", "import time; time.sleep(0.3); print(")
    with structlog.testing.capture_logs() as log:
        await supervisor.start(tiny_service(tmp_path, "one", dies))
        while not await asyncio.sleep(0.01, states.step("one").status == "failed"):
            pass
    failure = states.step("one").failure
    assert failure is not None
    assert "3 times in a row" in failure.why
    assert "the disk is full" in failure.why
    assert len(lines(tmp_path / "started")) == FAST.most_failures
    first_s, second_s = (entry["restart_in_s"] for entry in log if entry["event"] == "service ended")
    assert second_s > first_s > 0


async def test_a_failed_start_says_why_and_what_to_do(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed) as caught:
        await supervisor.start(tiny_service(tmp_path, "one", DIES, advice="Free some space."))
    failure = caught.value.failure
    assert (failure.step, failure.advice) == ("one", "Free some space.")
    assert "exit code 1" in failure.why
    assert "error: the disk is full" in failure.why
    assert failure.log is not None
    assert "reading the configuration" in Path(failure.log).read_text()


async def test_the_reason_comes_from_this_start_and_not_from_an_older_one(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    service = tiny_service(tmp_path, "one", DIES)
    service.log.parent.mkdir(parents=True)
    service.log.write_text("error: yesterday's trouble\n")
    with pytest.raises(ServiceFailed) as caught:
        await supervisor.start(service)
    assert "yesterday" not in caught.value.failure.why


async def test_a_service_that_never_gets_ready_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    never = SLEEPS.replace('(folder / f"{name}.ready").touch()', "")
    with pytest.raises(ServiceFailed, match=r"not ready after 1 s"):
        await supervisor.start(tiny_service(tmp_path, "one", never, start_timeout_s=1))
    assert processes_of(tmp_path) == []


async def test_a_program_that_does_not_exist_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match=r"/no/such/program cannot be started"):
        await supervisor.start(tiny_service(tmp_path, "one", SLEEPS, command=("/no/such/program",)))


async def test_one_failure_ends_what_was_started_beside_it(supervisor: Supervisor, tmp_path: Path) -> None:
    good, bad = tiny_service(tmp_path, "good", SLEEPS), tiny_service(tmp_path, "bad", DIES)
    with pytest.raises(ServiceFailed, match="bad"):
        await supervisor.start(good, bad)
    await supervisor.stop()
    assert processes_of(tmp_path) == []


async def test_services_stop_in_the_order_of_their_ranks(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(tiny_service(tmp_path, "valkey", SLEEPS, stop_rank=0))
    await supervisor.start(
        tiny_service(tmp_path, "gateway", SLEEPS, stop_rank=2), tiny_service(tmp_path, "engine", SLEEPS, stop_rank=1)
    )
    await supervisor.stop()
    assert lines(tmp_path / "stopped") == ["gateway", "engine", "valkey"]


async def test_a_service_that_will_not_stop_is_killed_after_its_grace(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(tiny_service(tmp_path, "one", IGNORES_SIGTERM, stop_grace_s=0.3))
    started_at = time.monotonic()
    await supervisor.stop()
    assert processes_of(tmp_path) == []
    assert 0.3 <= time.monotonic() - started_at < 5


async def test_what_a_service_leaves_behind_is_ended_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(tiny_service(tmp_path, "one", HAS_A_CHILD_THAT_IGNORES_SIGTERM))
    await until(lambda: len(processes_of(tmp_path)) == 2)
    await supervisor.stop()
    await until(lambda: processes_of(tmp_path) == [])


async def test_an_engine_on_demand_that_fails_takes_nothing_down_and_may_be_asked_for_again(
    supervisor: Supervisor, states: StateFile, tmp_path: Path
) -> None:
    await supervisor.start(tiny_service(tmp_path, "gateway", SLEEPS))
    supervisor.start_later(tiny_service(tmp_path, "engine", DIES))
    await until(lambda: states.step("engine").status == "failed")
    await until(lambda: not supervisor.runs("engine"))
    assert states.step("gateway").status == "ready"
    supervisor.start_later(tiny_service(tmp_path, "engine", SLEEPS))
    await until(lambda: states.step("engine").status == "ready")


async def test_an_engine_on_demand_is_started_once(supervisor: Supervisor, states: StateFile, tmp_path: Path) -> None:
    for _ in range(3):
        supervisor.start_later(tiny_service(tmp_path, "engine", SLEEPS))
    await until(lambda: states.step("engine").status == "ready")
    assert lines(tmp_path / "started") == ["engine"]


async def test_a_service_that_is_stopped_alone_is_not_kept_up_and_may_start_again(
    supervisor: Supervisor, states: StateFile, tmp_path: Path
) -> None:
    await supervisor.start(tiny_service(tmp_path, "gateway", SLEEPS))
    supervisor.start_later(tiny_service(tmp_path, "engine", SLEEPS))
    await until(lambda: states.step("engine").status == "ready")
    await supervisor.stop_one("engine")
    assert not supervisor.runs("engine")
    assert (states.step("engine").status, states.step("gateway").status) == ("stopped", "ready")
    supervisor.start_later(tiny_service(tmp_path, "engine", SLEEPS))
    await until(lambda: states.step("engine").status == "ready")
