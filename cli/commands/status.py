"""`flywheel status`: how the services of the local stack are."""

import time

import typer
from rich.text import Text

from cli.errors import CliError
from cli.home import Home
from cli.local_stack import LocalStack
from cli.progress import COLOURS
from cli.supervisor.state import SupervisorState, supervisor_lives
from cli.tables import make_table, print_table


def status() -> None:
    """Show the services, how they are, and where their logs lie. Exit code 1 if any has failed."""
    home = Home.find()
    state = SupervisorState.read(home)
    if state is None or not supervisor_lives(home):
        raise CliError("No stack runs here.", advice="Run `make up`.")
    table = make_table("service", "state", "process", "since", "restarts")
    for name, step in state.steps.items():
        since = "" if step.pid is None else _age(time.time() - step.since)
        process, restarts = "" if step.pid is None else str(step.pid), str(step.restarts or "")
        table.add_row(name, Text(step.status, COLOURS.get(step.status, "")), process, since, restarts)
    print_table(table)
    failed = [step.failure for step in state.steps.values() if step.status == "failed" and step.failure]
    for failure in failed:
        print(f"\n{failure.step} failed: {failure.why}\n  what to do: {failure.advice}\n  log: {failure.log}")
    if (stack := LocalStack.read(home)) is not None:
        print(f"\nbase URL  {stack.base_url}\nlogs      {home.logs}")
    if failed:
        raise typer.Exit(1)


def _age(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"
