"""`flywheel finetune`: makes a model of your own from a file of conversations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import openai_client
from cli.errors import CliError
from cli.instructions import TEXT_MODEL, curl_line
from cli.job_progress import follow_job
from cli.local_stack import find_endpoint

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob


def finetune(
    file: Annotated[Path, typer.Argument(help='A JSONL file; each line is {"messages": […]}.')],
    suffix: Annotated[str | None, typer.Option(help="Part of the new model's name.")] = None,
    model: Annotated[str, typer.Option(help="The base model.")] = TEXT_MODEL,
    validation: Annotated[
        Path | None, typer.Option(help="A JSONL file to measure the model on; the job does not learn from it.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
) -> None:
    """Upload FILE and start a fine-tuning job with it."""
    for needed in (file, validation):
        if needed is not None and not needed.is_file():
            raise CliError(f"There is no file {needed}.", advice="Give the path of a JSONL file of conversations.")
    with openai_client() as client:
        uploaded = _upload(client, file)
        measured_on = {} if validation is None else {"validation_file": _upload(client, validation)}
        job = client.fine_tuning.jobs.create(model=model, training_file=uploaded, suffix=suffix, **measured_on)
        print(f"Job {job.id} is queued; it trains {model} on {file.name} ({uploaded}).")
        if not watch:
            print(f"Follow it with `flywheel jobs watch {job.id}`.")
            return
        _report(follow_job(client, job.id))


def _upload(client: "OpenAI", file: Path) -> str:
    with file.open("rb") as source:
        return client.files.create(file=source, purpose="fine-tune").id


def _report(job: "FineTuningJob") -> None:
    if job.status != "succeeded" or job.fine_tuned_model is None:
        why = job.error.message if job.error and job.error.message else f"it {job.status}"
        raise CliError(f"The job made no model: {why}", advice="The worker's log tells more.")
    endpoint = find_endpoint()
    print(f"\nYour model is {job.fine_tuned_model}. Ask it:\n")
    print(curl_line(endpoint.base_url, endpoint.api_key, job.fine_tuned_model))
