"""Follows a job in the terminal: its messages, what it measures on validation data, and a bar with step and loss."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.terminal import console
from contracts.jobs import STARTED

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

FINAL = ("succeeded", "failed", "cancelled")
RECONNECT_S = 1.0
PATIENCE_S = 60.0
"""How long a gateway may be away, to be started anew for example, before following ends."""


def follow_job(client: "OpenAI", job_id: str) -> "FineTuningJob":
    """Shows what the job tells until it has ended. Ctrl-C leaves the job running."""
    follow_events(
        client, job_id, doing="training", has_ended=lambda: client.fine_tuning.jobs.retrieve(job_id).status in FINAL
    )
    return client.fine_tuning.jobs.retrieve(job_id)


def follow_events(client: "OpenAI", job_id: str, *, doing: str, has_ended: Callable[[], bool]) -> None:
    """The same for a job of any family; `doing` is what the bar says."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console()) as progress:
        bar = progress.add_task("waiting for a worker", total=None, told="")
        for event in _events(client, job_id, has_ended):
            _show(progress, bar, event, doing)


def _events(client: "OpenAI", job_id: str, has_ended: Callable[[], bool]) -> "Iterator[FineTuningJobEvent]":
    """Each event once, oldest first, over as many connections as it takes."""
    import openai

    seen: str | None = None
    heard_at = time.monotonic()
    while True:
        try:
            for event in _stream(client, job_id, after=seen):
                seen, heard_at = event.id, time.monotonic()
                yield event
            if has_ended():
                return
            heard_at = time.monotonic()
        except (openai.APIConnectionError, openai.InternalServerError):
            if time.monotonic() - heard_at > PATIENCE_S:
                raise
        time.sleep(RECONNECT_S)


def _stream(client: "OpenAI", job_id: str, *, after: str | None) -> "Iterator[FineTuningJobEvent]":
    import httpx
    from openai import Stream
    from openai.types.fine_tuning import FineTuningJobEvent

    query = {"stream": "true"} | ({} if after is None else {"after": after})
    try:
        yield from client.get(
            f"/fine_tuning/jobs/{job_id}/events",
            cast_to=FineTuningJobEvent,
            options={"params": query},
            stream=True,
            stream_cls=Stream[FineTuningJobEvent],
        )
    except httpx.TransportError:
        return  # cut in the middle: the gateway is gone


def _show(progress: Progress, bar: TaskID, event: "FineTuningJobEvent", doing: str) -> None:
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    if event.type != "metrics" or "step" not in data or any(name.startswith("valid_") for name in data):
        progress.console.print(f"  {event.message}")
        if event.message.startswith(STARTED):
            progress.update(bar, description="preparing")
        return
    step, total, loss = data.get("step"), data.get("total_steps"), data.get("train_loss")
    told = f"step {step}/{total}" + ("" if loss is None else f"  loss {loss:.3f}")
    progress.update(bar, description=doing, completed=step, total=total, told=told)
    if not progress.console.is_terminal:
        progress.console.print(f"  {told}")
