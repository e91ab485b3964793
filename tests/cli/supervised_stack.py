"""A supervisor process over tiny programs, for tests that kill it: `python -m tests.cli.supervised_stack FOLDER`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from cli.home import Home
from cli.supervisor.service import Service
from cli.supervisor.state import StateFile, held_by_this_supervisor
from cli.supervisor.supervisor import Supervisor
from tests.cli.tiny import SLEEPS, tiny_service


async def run(folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    states = StateFile(Home(folder), os.getpid())
    supervisor = Supervisor(states)
    services: list[Service] = [tiny_service(folder, name, SLEEPS) for name in ("first", "second")]
    await supervisor.start(*services)
    states.set_phase("ready")
    await stop.wait()
    await supervisor.stop()
    states.set_phase("stopped")


if __name__ == "__main__":
    with held_by_this_supervisor(Home(Path(sys.argv[1]))):
        asyncio.run(run(Path(sys.argv[1])))
