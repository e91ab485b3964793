"""`flywheel up`: starts the stack and shows how it gets on."""

import subprocess
import sys
import time
from typing import Annotated, NoReturn

import typer

from cli.errors import CliError
from cli.home import Home
from cli.instructions import print_instructions
from cli.local_stack import LocalStack
from cli.progress import show_progress
from cli.supervisor.control import start_supervisor, stop_supervisor
from cli.supervisor.log_tail import telling_lines
from cli.supervisor.state import Failure, SupervisorState, supervisor_lives

POLL_S = 0.1


def up(
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Start the embedding engine at once.")] = False,
    port: Annotated[
        int | None, typer.Option(help="The gateway's port; 0 takes any free ports.", min=0, max=65535)
    ] = None,
) -> None:
    """Start everything: Valkey, the database, an engine, the gateway and a worker."""
    home = Home.find()
    if supervisor_lives(home):
        _show_running(home)
        return
    started_at = time.monotonic()
    supervisor = start_supervisor(home, gateway_port=port, embeddings=embeddings)
    try:
        _follow(home, supervisor)
    except KeyboardInterrupt:
        print("\nStopping what was started …", file=sys.stderr)
        stop_supervisor(home)
        supervisor.wait()
        raise typer.Exit(130) from None
    stack = LocalStack.read(home)
    if stack is None:
        raise CliError("The stack was stopped while it started.", advice="Run `make up` again.")
    print(f"\nFlywheel is up after {time.monotonic() - started_at:.1f} s.")
    print_instructions(stack)


def _follow(home: Home, supervisor: "subprocess.Popen[bytes]") -> None:
    """Shows progress until the stack is up. Raises CliError when it does not come up."""
    with show_progress() as progress:
        while True:
            ended = supervisor.poll() is not None
            state = SupervisorState.read(home)
            if state is not None:
                progress.update(state)
                if state.phase == "ready":
                    return
            if ended:
                break
            time.sleep(POLL_S)
    if state is None or state.failure is None:
        log = home.log("supervisor")
        state_failure = Failure(step="supervisor", why=telling_lines(log), advice="Read the log.", log=str(log))
        _fail(state_failure)
    _fail(state.failure)


def _fail(failure: Failure) -> NoReturn:
    where = "" if failure.log is None else f"\n  log:        {failure.log}"
    raise CliError(
        f"{failure.step} failed. Everything that was started is stopped again.",
        advice="why:        " + failure.why.replace("\n", "\n    ") + f"\n  what to do: {failure.advice}{where}",
    )


def _show_running(home: Home) -> None:
    stack = LocalStack.read(home)
    if stack is None:
        raise CliError("The stack is starting or stopping just now.", advice="See `flywheel status`.")
    print("Flywheel is up already.")
    print_instructions(stack)
