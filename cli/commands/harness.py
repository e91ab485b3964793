"""`flywheel eval harness`: a model on tasks of lm-evaluation-harness, or an encoder on labelled rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client import openai_client
from cli.errors import CliError
from cli.instructions import TEXT_MODEL
from cli.job_progress import FINAL, follow_events
from cli.tables import make_table, print_table

if TYPE_CHECKING:
    from openai import OpenAI

RUNS = "/flywheel/harness_runs"


def harness(
    model: Annotated[str, typer.Argument(help="A model, an adapter, an alias, or an encoder.")] = TEXT_MODEL,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks, with commas between; `local` (all that need no hub) if left out."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Labelled rows, for an encoder.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each task at most.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Examples in each prompt.")] = None,
    apply_chat_template: Annotated[bool, typer.Option(help="Ask as in a chat.")] = False,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the run to its end.")] = True,
) -> None:
    """Measure MODEL, and print its scores with their standard errors."""
    with openai_client() as client:
        wanted: dict[str, Any] = {"model": model, "limit": limit, "num_fewshot": num_fewshot}
        if tasks is not None:
            wanted["tasks"] = [name.strip() for name in tasks.split(",")]
        if apply_chat_template:
            wanted["apply_chat_template"] = True
        if file is not None:
            wanted["file"] = _upload(client, file)
        run = _post(client, RUNS, {name: value for name, value in wanted.items() if value is not None})
        print(f"Run {run['id']} is queued: {model}.")
        if watch:
            follow_events(
                client, run["id"], doing="asking", has_ended=lambda: _get(client, run["id"])["status"] in FINAL
            )
            show(_get(client, run["id"]))
        else:
            print(f"See it with `flywheel eval harness-show {run['id']}`.")


def harness_show(run_id: Annotated[str, typer.Argument(help="The run's id: `ftjob-…`.")]) -> None:
    """Show a run's scores."""
    with openai_client() as client:
        show(_get(client, run_id))


def show(run: dict[str, Any]) -> None:
    if run["scores"]:
        table = make_table("task", "metric", "score", "standard error", "rows", "examples", "better")
        for score in run["scores"]:
            name = score["metric"] + ("" if score["filter"] == "none" else f" ({score['filter']})")
            stderr = "" if score["stderr"] is None else f"{score['stderr']:.4f}"
            better = {True: "higher", False: "lower", None: ""}[score["higher_is_better"]]
            rows, examples = str(score["rows"]), str(score["few_shot"])
            table.add_row(score["task"], name, f"{score['value']:.4f}", stderr, rows, examples, better)
        print()
        print_table(table)
    if run["status"] == "failed":
        raise CliError(f"The run failed: {run['error']['message']}")
    print(f"\n{run['model']}, {run['id']}: {run['status']}.")


def _upload(client: "OpenAI", file: Path) -> str:
    """Rows with `item` are an evaluation's; others have the form of training files."""
    with file.open("rb") as content:
        purpose = "evals" if content.readline().lstrip().startswith(b'{"item"') else "fine-tune"
        content.seek(0)
        return client.files.create(file=(file.name, content), purpose=purpose).id  # type: ignore[arg-type]


def _post(client: "OpenAI", path: str, body: dict[str, Any]) -> dict[str, Any]:
    return client.post(path, cast_to=dict[str, Any], body=body)


def _get(client: "OpenAI", run_id: str) -> dict[str, Any]:
    return client.get(f"{RUNS}/{run_id}", cast_to=dict[str, Any])
