"""However the supervisor ends, nothing of what it started stays."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.errors import CliError
from cli.home import Home
from cli.supervisor.control import end_leftovers, is_service_of, stop_supervisor
from cli.supervisor.state import SupervisorState, held_by_this_supervisor, supervisor_lives
from tests.cli.tiny import lines, processes_of
from tests.processes import Process, python


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Process]:
    home = Home(tmp_path)
    process = Process(python("-m", "tests.cli.supervised_stack", str(tmp_path)), log=tmp_path / "supervisor.log")
    process.wait_until(lambda: (state := SupervisorState.read(home)) is not None and state.phase == "ready")
    yield process
    process.kill()


def test_services_of_a_killed_supervisor_are_asked_to_stop_and_end(supervisor: Process, tmp_path: Path) -> None:
    assert len(processes_of(tmp_path)) == 3
    supervisor.kill()
    for service in processes_of(tmp_path):
        service.wait(5)
    assert sorted(lines(tmp_path / "stopped")) == ["first", "second"]


def test_down_ends_what_a_killed_supervisor_left(supervisor: Process, tmp_path: Path) -> None:
    home = Home(tmp_path)
    services = [process for process in processes_of(tmp_path) if process.pid != supervisor.pid]
    for service in services:
        service.suspend()  # it cannot hear that it should stop
    supervisor.kill()
    assert processes_of(tmp_path) != []
    for service in services:
        service.resume()
    assert end_leftovers(home) or processes_of(tmp_path) == []
    assert processes_of(tmp_path) == []


def test_down_stops_everything_and_says_nothing_runs_the_second_time(supervisor: Process, tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert supervisor_lives(home)
    assert stop_supervisor(home) is True
    assert processes_of(tmp_path) == []
    assert stop_supervisor(home) is False


def test_a_second_supervisor_of_the_same_home_is_refused(supervisor: Process, tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"already runs"), held_by_this_supervisor(Home(tmp_path)):
        pass


def test_a_stranger_that_got_a_service_s_number_is_not_ended(tmp_path: Path) -> None:
    stranger = Process(python("-c", "import time; time.sleep(60)"), log=tmp_path / "stranger.log")
    try:
        assert not is_service_of(Home(tmp_path), stranger.pid)
        os.kill(stranger.pid, 0)
    finally:
        assert stranger.stop() == -signal.SIGTERM
