"""`flywheel finetune`: makes a model of your own from a file of conversations."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.client import openai_client
from cli.errors import CliError
from cli.instructions import TEXT_MODEL, curl_line
from cli.local_stack import find_endpoint
from cli.terminal import console

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

POLL_S = 1.0
FINAL = ("succeeded", "failed", "cancelled")


def finetune(
    file: Annotated[Path, typer.Argument(help='A JSONL file; each line is {"messages": […]}.')],
    suffix: Annotated[str | None, typer.Option(help="Part of the new model's name.")] = None,
    model: Annotated[str, typer.Option(help="The base model.")] = TEXT_MODEL,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Upload FILE and start a fine-tuning job with it."""
    if not file.is_file():
        raise CliError(f"There is no file {file}.", advice="Give the path of a JSONL file of conversations.")
    with openai_client() as client:
        with file.open("rb") as source:
            uploaded = client.files.create(file=source, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=model, training_file=uploaded.id, suffix=suffix)
        print(f"Job {job.id} is queued; it trains {model} on {file.name} ({uploaded.id}).")
        if not watch:
            print("Follow it with the API's /v1/fine_tuning/jobs; next time, add --watch.")
            return
        _report(_follow(client, job))


def _follow(client: "OpenAI", job: "FineTuningJob") -> "FineTuningJob":
    """Shows messages and a bar until the job ends. Ctrl-C leaves the job running."""
    seen: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console()) as progress:
        bar = progress.add_task("waiting", total=None, told="")
        while True:
            job = client.fine_tuning.jobs.retrieve(job.id)
            events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
            for event in reversed([event for event in events if event.id not in seen]):
                seen.add(event.id)
                _show(progress, bar, event)
            if job.status in FINAL:
                return job
            time.sleep(POLL_S)


def _show(progress: Progress, bar: TaskID, event: "FineTuningJobEvent") -> None:
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    if event.type != "metrics" or "step" not in data:
        progress.console.print(f"  {event.message}")
        return
    step, total, loss = data.get("step"), data.get("total_steps"), data.get("train_loss")
    told = f"step {step}/{total}" + ("" if loss is None else f"  loss {loss:.3f}")
    progress.update(bar, description="training", completed=step, total=total, told=told)
    if not progress.console.is_terminal:
        progress.console.print(f"  {told}")


def _report(job: "FineTuningJob") -> None:
    if job.status != "succeeded" or job.fine_tuned_model is None:
        why = job.error.message if job.error and job.error.message else f"it {job.status}"
        raise CliError(f"The job made no model: {why}", advice="The worker's log tells more.")
    endpoint = find_endpoint()
    print(f"\nYour model is {job.fine_tuned_model}. Ask it:\n")
    print(curl_line(endpoint.base_url, endpoint.api_key, job.fine_tuned_model))
