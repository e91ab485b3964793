"""Shows the steps of a stack: a live table in a terminal, a line per change elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.supervisor.state import Step, SupervisorState
from cli.terminal import console

COLOURS = {"ready": "green", "failed": "red", "starting": "cyan", "restarting": "yellow", "stopping": "yellow"}


class Progress(Protocol):
    def update(self, state: SupervisorState) -> None: ...


@contextmanager
def show_progress() -> Iterator[Progress]:
    if not sys.stdout.isatty():
        yield PlainProgress()
        return
    with Live(console=console(), refresh_per_second=10) as live:
        yield LiveProgress(live)


class PlainProgress:
    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def update(self, state: SupervisorState) -> None:
        for name, step in state.steps.items():
            if step.status == "waiting" or self._seen.get(name) == step.status:
                continue
            self._seen[name] = step.status
            took = _seconds(step) if step.status == "ready" else ""
            print(f"  {name:<30} {step.status:<10} {took}".rstrip(), flush=True)


class LiveProgress:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._spinners: dict[str, Spinner] = {}

    def update(self, state: SupervisorState) -> None:
        table = Table.grid(padding=(0, 2))
        for name, step in state.steps.items():
            spinner = self._spinners.setdefault(name, Spinner("dots"))
            mark = {"ready": Text("✓", "green"), "failed": Text("✗", "red"), "waiting": Text("·", "dim")}
            table.add_row(
                mark.get(step.status, spinner), name, Text(step.status, COLOURS.get(step.status, "")), _seconds(step)
            )
        self._live.update(table)


def _seconds(step: Step) -> str:
    if step.seconds is not None:
        return f"{step.seconds:.1f} s"
    return f"{time.time() - step.since:.0f} s" if step.status == "starting" else ""
