"""`flywheel jobs`: fine-tuning jobs, and what can be done with them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import openai_client
from cli.job_progress import follow_job
from cli.tables import make_table, print_table

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

EVENTS_SHOWN = 10

app = typer.Typer(help="List, follow, pause, resume and cancel fine-tuning jobs.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="The job's id: `ftjob-…`.")]


@app.command("list")
def list_jobs(limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20) -> None:
    """List jobs, newest first."""
    with openai_client() as client:
        jobs = client.fine_tuning.jobs.list(limit=limit).data
    table = make_table("job", "status", "model", "created", "result")
    for job in jobs:
        result = job.fine_tuned_model or (job.error.message if job.error else None) or ""
        table.add_row(job.id, job.status, job.model, _time(job.created_at), result)
    print_table(table)


@app.command("show")
def show_job(job_id: JobId) -> None:
    """Show one job: its state, its newest checkpoint and its last events."""
    with openai_client() as client:
        job = client.fine_tuning.jobs.retrieve(job_id)
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id, limit=1).data
        events = client.fine_tuning.jobs.list_events(job_id, limit=EVENTS_SHOWN).data
    table = make_table("", "")
    table.show_header = False
    table.add_row("status", job.status)
    table.add_row("base", job.model)
    table.add_row("created", _time(job.created_at))
    if job.finished_at:
        table.add_row("finished", _time(job.finished_at))
    elif job.estimated_finish:
        table.add_row("likely to finish", _time(job.estimated_finish))
    if checkpoints:
        table.add_row("newest checkpoint", f"step {checkpoints[0].step_number}")
    if job.fine_tuned_model:
        table.add_row("model", job.fine_tuned_model)
    if job.error and job.error.message:
        table.add_row("error", job.error.message)
    print_table(table)
    print()
    for event in reversed(events):
        print(f"  {_time(event.created_at)}  {event.message}")


@app.command("watch")
def watch_job(job_id: JobId) -> None:
    """Follow a job to its end. Ctrl-C leaves it running."""
    with openai_client() as client:
        _tell(follow_job(client, job_id))


@app.command("pause")
def pause_job(job_id: JobId) -> None:
    """Pause a job. One that runs saves what it has after its step, and frees its worker."""
    with openai_client() as client:
        _tell(client.fine_tuning.jobs.pause(job_id))


@app.command("resume")
def resume_job(job_id: JobId) -> None:
    """Queue a paused job again; it goes on from its checkpoint."""
    with openai_client() as client:
        _tell(client.fine_tuning.jobs.resume(job_id))


@app.command("cancel")
def cancel_job(job_id: JobId) -> None:
    """End a job for good."""
    with openai_client() as client:
        _tell(client.fine_tuning.jobs.cancel(job_id))


def _tell(job: "FineTuningJob") -> None:
    print(f"Job {job.id} is {job.status}." + (f" {job.error.message}" if job.error and job.error.message else ""))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
