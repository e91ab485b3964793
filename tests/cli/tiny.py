"""Tiny real programs to supervise."""

import os
import sys
from pathlib import Path
from typing import Any

import psutil

from cli.supervisor.service import Service

# Each says that it is ready by a file, and writes its name to a shared list when it is asked to stop.
SLEEPS = """
import pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def stop(*_):
    with (folder / "stopped").open("a") as stopped:
        stopped.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with (folder / "started").open("a") as started:
    started.write(name + "\\n")
(folder / f"{name}.ready").touch()
time.sleep(600)
"""
IGNORES_SIGTERM = SLEEPS.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
HAS_A_CHILD_THAT_IGNORES_SIGTERM = SLEEPS.replace(
    "time.sleep",
    "import subprocess; subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)']); time.sleep",
)
DIES = """
import pathlib, sys
with (pathlib.Path(sys.argv[1]) / "started").open("a") as started:
    started.write(sys.argv[2] + "\\n")
print("reading the configuration")
sys.exit("error: the disk is full")
"""


def tiny_service(folder: Path, name: str, program: str, **fields: Any) -> Service:
    ready = folder / f"{name}.ready"

    async def is_ready() -> bool:
        return ready.exists()

    defaults: dict[str, Any] = {
        "name": name,
        "command": (sys.executable, "-c", program, str(folder), name),
        "environment": {**os.environ, "FLYWHEEL_HOME": str(folder)},
        "folder": folder,
        "log": folder / "logs" / f"{name}.log",
        "is_ready": is_ready,
        "advice": "Do something.",
        "start_timeout_s": 10,
        "stop_grace_s": 5,
    }
    return Service(**defaults | fields)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that names this folder on its command line or in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            named = any(str(folder) in part for part in process.cmdline())
            if process.pid != os.getpid() and (named or process.environ().get("FLYWHEEL_HOME") == str(folder)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
