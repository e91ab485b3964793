"""Runs one of the programs that make variants (workers/compress/techniques/), and passes on what it tells."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workers.compress.told import CannotMake, Task
from workers.run import JobRun

POLL_S = 0.25
TOLD_EVERY_S = 5.0
TAIL_BYTES = 4000
MODULES = "workers.compress.techniques"
ROOT = Path(__file__).parents[2]


def run_program(
    python: Path, technique: str, task: Task, run: JobRun, *, log: Path, tell: Callable[[dict[str, Any]], None]
) -> dict[str, float]:
    """The facts that the program tells at its end. `tell` hears of steps, every few seconds.

    Raises CannotMake where the program says why it cannot, or ends without a word; and what `run.check` raises, once
    the program is gone.
    """
    task.output.mkdir(parents=True, exist_ok=True)
    file = task.output.with_name(f"{task.output.name}.task.json")
    task.write(file)
    command = [str(python), "-m", f"{MODULES}.{technique}", str(file)]
    with log.open("ab") as words, _process(command, words) as process:
        told_at = 0.0
        for news in _news(process, run):
            if "failed" in news:
                raise CannotMake(news["failed"])
            if "made" in news:
                facts: dict[str, float] = news["made"]
                return facts
            if "message" in news:
                run.message(news["message"])
            elif time.monotonic() - told_at > TOLD_EVERY_S or news["step"] == news["total_steps"]:
                tell(news)
                told_at = time.monotonic()
    raise CannotMake(f"Its program ended with {process.returncode}: {last_words(log)}")


def last_words(log: Path) -> str:
    """The last line of a program's log that says something: of a traceback, the error."""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = source.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else "it said nothing"


def _news(process: subprocess.Popen[bytes], run: JobRun) -> Iterator[dict[str, Any]]:
    """What libraries print among the news is passed over."""
    assert process.stdout is not None
    rest = b""
    while True:
        run.check()
        if not select.select([process.stdout], [], [], POLL_S)[0]:
            continue
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        if not chunk:
            process.wait()
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                if isinstance(news := json.loads(line), dict):
                    yield news


@contextmanager
def _process(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, env=_environment(), cwd=ROOT, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    """None of our settings, which hold secrets; and no hub, for weights that are here already."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
    return own | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
