"""`flywheel eval schedule`: runs that come again by themselves, and what their scores do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import openai_client
from cli.durations import seconds_of
from cli.errors import CliError
from cli.instructions import TEXT_MODEL
from cli.tables import make_table, print_table

PATH = "/flywheel/eval_schedules"

app = typer.Typer(help="Evaluate again and again, and watch the scores.", no_args_is_help=True)

ScheduleId = Annotated[str, typer.Argument(help="The schedule's id: `evalsched_…`.")]
Cron = Annotated[str | None, typer.Option(help='When, in UTC: minute, hour, day, month, weekday, as in "0 4 * * *".')]
Every = Annotated[str | None, typer.Option(help="How often, for example 30m, 6h or 1d; the first time at once.")]
PValue = Annotated[float | None, typer.Option(help="Alert where chance explains a difference with less than this.")]
Difference = Annotated[float | None, typer.Option(help="… and the mean score differs by so much.")]
BASELINE = "What runs are compared with: `first` or `last` of the schedule, or a run's id."


@app.command("create")
def create_schedule(
    file: Annotated[Path, typer.Argument(help="A YAML file that says what is measured; see examples/evals.")],
    model: Annotated[str, typer.Option(help="A model, an adapter, an alias, or external/NAME.")] = TEXT_MODEL,
    cron: Cron = None,
    every: Every = None,
    baseline: Annotated[str, typer.Option(help=BASELINE)] = "first",
    criterion: Annotated[
        list[str] | None, typer.Option(help="Watch this criterion; all of the file if left out. May be repeated.")
    ] = None,
    p_value: PValue = None,
    difference: Difference = None,
    name: Annotated[str | None, typer.Option(help="A name; the file's if left out.")] = None,
) -> None:
    """Evaluate MODEL by a file regularly, and raise an alert when its scores are not what they were."""
    from cli.evaluation.asked import find_or_create, source_of
    from cli.evaluation.spec import read_spec

    timing = _timing(cron, every)
    if timing is None:
        raise CliError("When?", advice='Give --every 6h, or --cron "0 4 * * *".')
    spec, rows = read_spec(file)
    with openai_client() as client:
        body = {
            "eval_id": find_or_create(client, spec, rows),
            "data_source": source_of(client, spec, rows, model),
            "timing": timing,
            "name": name or spec.name,
            "baseline": baseline,
            "criteria": criterion or None,
            "alert": _alert(p_value, difference),
        }
        made = client.post(PATH, body=body, cast_to=dict[str, Any])
    print(f"Schedule {made['id']} asks {model} about {len(rows)} rows of {spec.data.name}.")
    print(f"Its next run is at {_time(made['next_run_at'])}.")


@app.command("list")
def list_schedules(limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20) -> None:
    """List schedules, newest first."""
    table = make_table("schedule", "name", "model", "when", "next run", "drift")
    with openai_client() as client:
        page: Any = client.get(PATH, options={"params": {"limit": limit}}, cast_to=object)
    for found in page["data"]:
        table.add_row(
            found["id"], found["name"], found["model"], _when(found), _next(found), found["drift"] or "not known yet"
        )
    print_table(table)


@app.command("show")
def show_schedule(schedule_id: ScheduleId) -> None:
    """Show a schedule, its last run, and what was skipped."""
    with openai_client() as client:
        found = client.get(f"{PATH}/{schedule_id}", cast_to=dict[str, Any])
    alert = found["alert"]
    told = {
        "name": found["name"],
        "model": found["model"],
        "when": _when(found),
        "next run": _next(found),
        "baseline": found["baseline"],
        "watches": ", ".join(found["criteria"] or ["all criteria"]),
        "alert": f"p < {alert['p_value']}, and a difference of {alert['difference']} or more",
        "drift": found["drift"] or "not known yet",
        "last run": found["last_run"] or "none yet",
    }
    if found["skipped_at"] is not None:
        told["skipped"] = f"{_time(found['skipped_at'])}: {found['skip_reason'].replace('_', ' ')}"
    table = make_table(schedule_id, "")
    for label, value in told.items():
        table.add_row(label, value)
    print_table(table)


@app.command("change")
def change_schedule(
    schedule_id: ScheduleId,
    cron: Cron = None,
    every: Every = None,
    baseline: Annotated[str | None, typer.Option(help=f"{BASELINE} The history begins anew.")] = None,
    p_value: PValue = None,
    difference: Difference = None,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
) -> None:
    """Change a schedule. After a change of the model that is meant to be, `--baseline first` begins anew."""
    alert = None
    with openai_client() as client:
        if p_value is not None or difference is not None:
            now = client.get(f"{PATH}/{schedule_id}", cast_to=dict[str, Any])["alert"]
            alert = now | _alert(p_value, difference)
        asked = {"timing": _timing(cron, every), "baseline": baseline, "name": name, "alert": alert}
        body = {field: value for field, value in asked.items() if value is not None}
        if not body:
            raise CliError("Nothing to change.", advice="`flywheel eval schedule change --help` shows what can be.")
        client.post(f"{PATH}/{schedule_id}", body=body, cast_to=object)
    print(f"{schedule_id} is changed.")


@app.command("pause")
def pause_schedule(schedule_id: ScheduleId) -> None:
    """Make no runs until it is resumed. One that is under way goes on."""
    with openai_client() as client:
        client.post(f"{PATH}/{schedule_id}/pause", cast_to=object)
    print(f"{schedule_id} is paused.")


@app.command("resume")
def resume_schedule(schedule_id: ScheduleId) -> None:
    """Go on with a paused schedule."""
    with openai_client() as client:
        found = client.post(f"{PATH}/{schedule_id}/resume", cast_to=dict[str, Any])
    print(f"{schedule_id} goes on; its next run is at {_time(found['next_run_at'])}.")


@app.command("delete")
def delete_schedule(schedule_id: ScheduleId) -> None:
    """Delete a schedule. Its runs stay."""
    with openai_client() as client:
        client.delete(f"{PATH}/{schedule_id}", cast_to=object)
    print(f"{schedule_id} is deleted.")


def _timing(cron: str | None, every: str | None) -> dict[str, Any] | None:
    if cron is not None and every is not None:
        raise CliError("Give either --cron or --every.")
    if cron is None and every is None:
        return None
    return {"cron": cron} if every is None else {"every_s": seconds_of(every)}


def _alert(p_value: float | None, difference: float | None) -> dict[str, float]:
    asked = {"p_value": p_value, "difference": difference}
    return {field: value for field, value in asked.items() if value is not None}


def _when(found: dict[str, Any]) -> str:
    timing = found["timing"]
    return f"{timing['cron']} (UTC)" if timing["cron"] else f"every {timing['every_s']} s"


def _next(found: dict[str, Any]) -> str:
    return "paused" if found["paused"] else _time(found["next_run_at"])


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
