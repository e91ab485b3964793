"""`python -m inference.follower MODEL MACHINE`: lends this machine's GPUs to an engine whose agent is on another one.

Machines that one engine spans count from 0, which is the agent's. vLLM waits at the meeting point for the agent's, and
ends with it; then it waits for the next one.
"""

import argparse
import asyncio
import signal
import sys

import structlog

from contracts.settings import Settings
from inference.catalogue import Catalogue, CatalogueError
from inference.command import EngineCommand, build_command, find_device
from inference.process import EngineProcess
from inference.weights import WeightsError, ensure_weights
from telemetry.logs import configure_logs

SERVICE = "flywheel-engine"
PAUSE_S = 1.0

log = structlog.get_logger(__name__)


async def follow(command: EngineCommand, stop: asyncio.Event) -> None:
    """Starts vLLM again each time it ends, until told to stop."""
    stopped = asyncio.create_task(stop.wait())
    while not stop.is_set():
        process = await EngineProcess.start(command)
        ended = asyncio.create_task(process.watch())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await process.stop()
        log.info("engine left", reason=str((await asyncio.gather(ended, return_exceptions=True))[0]))
        await asyncio.wait((stopped,), timeout=PAUSE_S)


async def _run(command: EngineCommand) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await follow(command, stop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inference.follower", description=__doc__)
    parser.add_argument("model", help="a name of the catalogue")
    parser.add_argument("machine", type=int, help="from 1; the agent's is 0")
    arguments = parser.parse_args()
    settings = Settings()
    configure_logs(SERVICE, settings.telemetry.log_level)
    if not 0 < arguments.machine < settings.engine.machines:
        sys.exit(
            f"There is no machine {arguments.machine} to follow with: FLYWHEEL_ENGINE__MACHINES is "
            f"{settings.engine.machines}."
        )
    try:
        model = Catalogue.load(settings.engine.catalogue).require(arguments.model)
        weights = ensure_weights(model, settings.engine.weights_dir)
    except (CatalogueError, WeightsError) as error:
        sys.exit(str(error))
    asyncio.run(_run(build_command(model, weights.folder, settings, find_device(), machine=arguments.machine)))


if __name__ == "__main__":
    main()
