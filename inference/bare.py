"""`python -m inference.bare BASE --weights FOLDER --port PORT`: vLLM for a folder of weights, started as an engine of
the base would be, but without a lease: no gateway sends it anything.

For jobs that measure what they made before anybody is to use it. It becomes vLLM, and all of it ends with whoever holds
the other end of its standard input.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from contracts.serving import ServingFileInvalid
from contracts.settings import Settings
from inference.catalogue import Catalogue, CatalogueError
from inference.command import build_command, find_device

NAME = "measured"
"""What requests call the model."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inference.bare", description=__doc__)
    parser.add_argument("base", help="a name of the catalogue, which says how to start it")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context-length", type=int, required=True)
    told = parser.parse_args()
    settings = Settings()
    engine = settings.engine.model_copy(update={"port": told.port, "host": "127.0.0.1"})
    try:
        model = Catalogue.load(engine.catalogue).require(told.base)
        own = {"name": NAME, "context_length": told.context_length}
        command = build_command(
            model.model_copy(update=own), told.weights, settings.model_copy(update={"engine": engine}), find_device()
        )
    except (CatalogueError, ServingFileInvalid) as error:
        sys.exit(str(error))
    os.setsid()
    subprocess.Popen([sys.executable, "-m", "inference.guard", str(os.getpid())], start_new_session=True)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.execve(command.arguments[0], command.arguments, dict(command.environment))  # noqa: S606 (no shell wanted)


if __name__ == "__main__":
    main()
