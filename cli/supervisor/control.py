"""Starts and stops the supervisor from another process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from cli.errors import CliError
from cli.home import REPOSITORY, Home, environment_python
from cli.local_stack import settings_from, stack_environment
from cli.supervisor.ports import Ports, choose_ports
from cli.supervisor.state import SupervisorState, supervisor_lives

POLL_S = 0.05
STOP_TIMEOUT_S = 120.0
LEFTOVER_GRACE_S = 40.0


def start_supervisor(home: Home, *, gateway_port: int | None, embeddings: bool) -> subprocess.Popen[bytes]:
    """A process in a session of its own that outlives this one. Raises CliError when it cannot be started."""
    for service in ("gateway", "engine", "worker"):
        if not environment_python(service).exists():
            raise CliError(f"The environment of the {service} is not installed.", advice="Run `make up`.")
    end_leftovers(home)
    home.local_file.unlink(missing_ok=True)
    home.state_file.unlink(missing_ok=True)
    ports = choose_ports(gateway_port)
    environment = os.environ | stack_environment(home)
    own_valkey = "FLYWHEEL_REDIS_URL" not in os.environ
    environment |= {"FLYWHEEL_GATEWAY__HOST": "127.0.0.1", "FLYWHEEL_GATEWAY__PORT": str(ports.gateway)}
    if own_valkey:
        environment["FLYWHEEL_REDIS_URL"] = f"redis://127.0.0.1:{ports.valkey}/0"
    settings_from({name: value for name, value in environment.items() if name.startswith("FLYWHEEL_")})
    home.logs.mkdir(parents=True, exist_ok=True)
    with home.log("supervisor").open("ab") as output:
        return subprocess.Popen(
            _command(home, ports, own_valkey=own_valkey, embeddings=embeddings),
            env=environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _command(home: Home, ports: Ports, *, own_valkey: bool, embeddings: bool) -> list[str]:
    command = [sys.executable, "-m", "cli.supervisor", "--home", str(home.folder)]
    command += ["--gateway-port", str(ports.gateway), "--engine-port", str(ports.engine)]
    command += ["--valkey-port", str(ports.valkey)]
    return command + ["--own-valkey"] * own_valkey + ["--embeddings"] * embeddings


def stop_supervisor(home: Home, *, on_wait: Callable[[SupervisorState], None] | None = None) -> bool:
    """Stops the stack and waits until nothing of it runs. False if nothing ran."""
    ran = False
    if supervisor_lives(home) and (state := SupervisorState.read(home)) is not None:
        ran = True
        _stop(home, state, on_wait)
    if end_leftovers(home):
        ran = True
    home.local_file.unlink(missing_ok=True)
    return ran


def _stop(home: Home, state: SupervisorState, on_wait: Callable[[SupervisorState], None] | None) -> None:
    with suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while supervisor_lives(home) or _runs(state.pid):
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)
        if on_wait is not None and (now := SupervisorState.read(home)) is not None:
            on_wait(now)
        time.sleep(POLL_S)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_leftovers(home: Home) -> bool:
    """Ends services whose supervisor was killed; they were asked to stop when it died. Whether there were any."""
    state = SupervisorState.read(home)
    if state is None or supervisor_lives(home):
        return False
    left = [step.pid for step in state.steps.values() if step.pid and is_service_of(home, step.pid)]
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    for pid in left:
        while is_service_of(home, pid):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(POLL_S * 4)
    return bool(left)


def is_service_of(home: Home, pid: int) -> bool:
    """Whether this process was started by the supervisor of this home, and not by a stranger that got its number."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"FLYWHEEL_HOME={home.folder}".encode() in environ.split(b"\0")
