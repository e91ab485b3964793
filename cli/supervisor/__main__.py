"""`python -m cli.supervisor`: the process behind `flywheel up`. Its environment holds the settings of the stack."""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog

from cli.errors import CliError
from cli.home import Home
from cli.supervisor.ports import Ports
from cli.supervisor.stack import Stack
from cli.supervisor.state import StateFile, held_by_this_supervisor
from contracts.settings import Settings
from telemetry.logs import configure_logs


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cli.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    for service in ("gateway", "engine", "valkey"):
        parser.add_argument(f"--{service}-port", type=int, required=True)
    parser.add_argument("--own-valkey", action="store_true", help="start Valkey, not use one that runs elsewhere")
    parser.add_argument("--embeddings", action="store_true", help="start the embedding engine at once")
    return parser.parse_args()


async def run(home: Home, options: argparse.Namespace, settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = Ports(options.gateway_port, options.engine_port, options.valkey_port)
    states = StateFile(home, os.getpid())
    async with AsyncExitStack() as resources:
        stack = await Stack.create(home, ports, settings, states, resources)
        return await stack.run(stop, own_valkey=options.own_valkey, embeddings=options.embeddings)


def main() -> int:
    options, settings = _parse(), Settings()
    configure_logs("flywheel-supervisor", settings.telemetry.log_level)
    home = Home(options.home)
    try:
        with held_by_this_supervisor(home), suppress(KeyboardInterrupt):
            return asyncio.run(run(home, options, settings))
    except CliError as error:
        structlog.get_logger(__name__).error("supervisor cannot start", reason=error.message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
