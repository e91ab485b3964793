"""`flywheel eval harness`: a model on tasks of lm-evaluation-harness, or an encoder on labelled rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client import openai_client
from cli.errors import CliError
from cli.fairness_tables import print_fairness
from cli.instructions import TEXT_MODEL
from cli.job_progress import FINAL, follow_events
from cli.tables import make_table, print_table

if TYPE_CHECKING:
    from openai import OpenAI

RUNS = "/flywheel/harness_runs"
ITEM = b'{"item"'
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write a classifier's fairness to this HTML file.")]


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
    sensitive: Annotated[
        str | None, typer.Option(help="The column that says the group of each row: a classifier's fairness.")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="The label whose fairness is measured; all if left out.")] = None,
    report: ReportFile = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the run to its end.")] = True,
) -> None:
    """Measure MODEL, and print its scores with their standard errors."""
    if report is not None and sensitive is None:
        raise CliError(
            "`--report` is of a classifier's fairness.", advice="Name the groups' column with `--sensitive`."
        )
    with openai_client() as client:
        wanted: dict[str, Any] = {
            "model": model,
            "limit": limit,
            "num_fewshot": num_fewshot,
            "sensitive": sensitive,
            "positive": positive,
        }
        if tasks is not None:
            wanted["tasks"] = [name.strip() for name in tasks.split(",")]
        if apply_chat_template:
            wanted["apply_chat_template"] = True
        if file is not None:
            wanted["file"] = _upload(client, file, grouped=sensitive is not None)
        run = _post(client, RUNS, {name: value for name, value in wanted.items() if value is not None})
        print(f"Run {run['id']} is queued: {model}.")
        if watch:
            follow_events(
                client, run["id"], doing="asking", has_ended=lambda: _get(client, run["id"])["status"] in FINAL
            )
            show(_get(client, run["id"]))
            _write(client, run["id"], report)
        else:
            print(f"See it with `flywheel eval harness-show {run['id']}`.")


def harness_show(
    run_id: Annotated[str, typer.Argument(help="The run's id: `ftjob-…`.")], report: ReportFile = None
) -> None:
    """Show a run's scores."""
    with openai_client() as client:
        show(_get(client, run_id))
        _write(client, run_id, report)


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
    if run["fairness"] is not None:
        print_fairness(run["fairness"])
    if run["status"] == "failed":
        raise CliError(f"The run failed: {run['error']['message']}")
    print(f"\n{run['model']}, {run['id']}: {run['status']}.")


def _upload(client: "OpenAI", file: Path, *, grouped: bool) -> str:
    """Rows with `item` are an evaluation's, and so are rows with groups; others have the form of training files."""
    with file.open("rb") as content:
        has_items = content.readline().lstrip().startswith(ITEM)
        content.seek(0)
        if grouped and not has_items:
            rows = b"".join(b'{"item": %b}\n' % line.strip() for line in content if line.strip())
            return client.files.create(file=(file.name, rows), purpose="evals").id
        purpose = "evals" if has_items else "fine-tune"
        return client.files.create(file=(file.name, content), purpose=purpose).id  # type: ignore[arg-type]


def _write(client: "OpenAI", run_id: str, report: Path | None) -> None:
    if report is not None:
        report.write_text(client.get(f"{RUNS}/{run_id}/fairness", cast_to=str), encoding="utf-8")
        print(f"\nThe report is in {report}.")


def _post(client: "OpenAI", path: str, body: dict[str, Any]) -> dict[str, Any]:
    return client.post(path, cast_to=dict[str, Any], body=body)


def _get(client: "OpenAI", run_id: str) -> dict[str, Any]:
    return client.get(f"{RUNS}/{run_id}", cast_to=dict[str, Any])
