"""`flywheel eval`: how good a model is on rows of your own, with intervals, beside an earlier run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.bias_changes import print_changes
from cli.client import openai_client
from cli.commands.eval_history import history
from cli.commands.eval_schedules import app as schedules
from cli.commands.harness import harness, harness_show
from cli.errors import CliError
from cli.instructions import TEXT_MODEL
from cli.job_progress import follow_events
from cli.tables import make_table, print_table

if TYPE_CHECKING:
    from openai import OpenAI

app = typer.Typer(help="Evaluate models, compare them, read reports.", no_args_is_help=True)

app.command("harness")(harness)
app.command("harness-show")(harness_show)
app.command("history")(history)
app.add_typer(schedules, name="schedule")

ENDED_JOBS = ("succeeded", "failed", "cancelled")
ENDED = ("completed", "failed", "canceled")
LIST_LIMIT = 100
WORSE = 3
RunId = Annotated[str, typer.Argument(help="The run's id: `evalrun_…`.")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write the report to this HTML file.")]


@app.command("run")
def run_eval(
    file: Annotated[Path, typer.Argument(help="A YAML file that says what is measured; see examples/evals.")],
    model: Annotated[str, typer.Option(help="A model, an adapter, an alias, or external/NAME.")] = TEXT_MODEL,
    baseline: Annotated[
        str | None, typer.Option(help="An earlier run of the same file, or `last`, to compare row by row.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for the run; the model's if left out.")] = None,
    report: ReportFile = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit with 3 where a score is surely below the baseline's.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Follow the run to its end.")] = True,
) -> None:
    """Ask MODEL about every row of the file's data, and grade what it says."""
    from cli.evaluation.asked import find_or_create, source_of
    from cli.evaluation.spec import read_spec

    if fail_if_worse and (baseline is None or not wait):
        raise CliError("--fail-if-worse needs a --baseline, and waits for the run's end.")

    spec, rows = read_spec(file)
    with openai_client() as client:
        eval_id = find_or_create(client, spec, rows)
        fields: dict[str, Any] = {"name": name} if name else {}
        if baseline is not None:
            fields["extra_body"] = {"baseline": _last(client, eval_id) if baseline == "last" else baseline}
        run = client.evals.runs.create(eval_id, data_source=source_of(client, spec, rows, model), **fields)  # type: ignore[arg-type]
        print(f"Run {run.id} is queued: {model} on {len(rows)} rows of {spec.data.name}.")
        if not wait:
            print(f"See it with `flywheel eval show {run.id}`.")
            return
        _follow(client, run)
        statistics = _show(client, eval_id, run.id, report)
    if fail_if_worse and (worse := [found["name"] for found in statistics if _is_worse(found)]):
        typer.secho(f"Surely worse than the baseline: {', '.join(worse)}.", fg="red", err=True)
        raise typer.Exit(WORSE)


@app.command("list")
def list_runs(limit: Annotated[int, typer.Option(min=1, max=100, help="How many evals, newest first.")] = 10) -> None:
    """List evals and their runs, newest first."""
    table = make_table("run", "eval", "model", "status", "passed")
    with openai_client() as client:
        for each in client.evals.list(order="desc", limit=limit).data:
            for run in client.evals.runs.list(each.id, order="desc", limit=LIST_LIMIT).data:
                counts = run.result_counts
                table.add_row(run.id, each.name, run.model or "", run.status, f"{counts.passed} of {counts.total}")
    print_table(table)


@app.command("show")
def show_run(run_id: RunId, report: ReportFile = None) -> None:
    """Show a run's figures, and write its report."""
    with openai_client() as client:
        _show(client, _eval_of(client, run_id), run_id, report)


@app.command("bias")
def report_bias(
    model: Annotated[str, typer.Argument(help="A model, an adapter, an alias, or external/NAME.")] = TEXT_MODEL,
    embeddings: Annotated[str | None, typer.Option(help="An embedding model, whose associations are tested.")] = None,
    mitigate: Annotated[
        list[str] | None,
        typer.Option(help="Measure again with `prompt` or `embeddings`; may be repeated."),
    ] = None,
    report: ReportFile = None,
) -> None:
    """Measure what MODEL does to groups of people, and what it gives away."""
    with openai_client() as client:
        body = {"model": model, "embedding_model": embeddings, "mitigate": mitigate or []}
        job: dict[str, Any] = client.post("/flywheel/bias_reports", body=body, cast_to=dict[str, Any])
        path = f"/flywheel/bias_reports/{job['id']}"

        def has_ended() -> bool:
            return client.get(path, cast_to=dict[str, Any])["status"] in ENDED_JOBS

        follow_events(client, job["id"], doing="asking", has_ended=has_ended)
        told = client.get(path, cast_to=dict[str, Any])
        if told["results"] is None:
            raise CliError(f"There is no report: {(told['error'] or {}).get('message', told['status'])}")
        _print_bias(told["results"])
        for mitigated in told["results"]["mitigated"]:
            print_changes(mitigated)
        if report is not None:
            report.write_text(client.get(f"{path}/report", cast_to=str))
            print(f"\nThe report is in {report}.")


def _print_bias(results: dict[str, Any]) -> None:
    table = make_table("measured", "value", "95 % interval or p")
    for found in results["preferences"]:
        share = found["share"]
        table.add_row(f"stereotype likelier: {found['kind']}", f"{share['mean']:.0%}", _between(share))
    for found in results["gaps"]:
        table.add_row(f"{found['measure']} by {found['axis']}", f"{found['gap']:.3f}", f"p = {found['p_value']:.3f}")
    for found in results["associations"]:
        table.add_row(found["name"], f"d = {found['effect']:.2f}", f"p = {found['p_value']:.4f}")
    for kind, share in results["refusals"].items():
        table.add_row(f"declined: {kind} requests", f"{share['mean']:.0%}", _between(share))
    if results["extraction"] is not None:
        share = results["extraction"]["verbatim"]
        table.add_row("training answers given verbatim", f"{share['mean']:.0%}", _between(share))
    print_table(table)


def _between(interval: dict[str, float]) -> str:
    return f"{interval['low']:.0%} – {interval['high']:.0%}"


def _follow(client: "OpenAI", run: Any) -> None:
    def has_ended() -> bool:
        return client.evals.runs.retrieve(run.id, eval_id=run.eval_id).status in ENDED

    follow_events(client, run.model_dump()["job"], doing="evaluating", has_ended=has_ended)


def _is_worse(found: dict[str, Any]) -> bool:
    against = found["against_baseline"]
    return against is not None and against["high"] < 0


def _show(client: "OpenAI", eval_id: str, run_id: str, report: Path | None) -> list[dict[str, Any]]:
    """What it shows of each criterion."""
    run = client.evals.runs.retrieve(run_id, eval_id=eval_id)
    told = run.model_dump()
    if run.status == "failed":
        raise CliError(f"The run failed: {run.error.message}", advice="The worker's log tells more.")
    counts = run.result_counts
    print(f"\n{run.name}, {run.id}: {run.status}. {counts.passed} of {counts.total} rows pass", end="")
    print(f", {counts.errored} had no answer." if counts.errored else ".")
    if told["statistics"]:
        _print_statistics(told["statistics"])
    for found in told["contamination"]:
        print(f"\nBeware: {len(found['rows'])} of the rows are in what {found['model']} was trained on.")
    if report is not None:
        page = client.get(f"/evals/{eval_id}/runs/{run_id}/report", cast_to=str)
        report.write_text(page)
        print(f"\nThe report is in {report}.")
    statistics: list[dict[str, Any]] = told["statistics"]
    return statistics


def _print_statistics(statistics: list[dict[str, Any]]) -> None:
    compared = any(found["against_baseline"] for found in statistics)
    columns = ["rows", "score", "95 % interval", "pass", "95 % interval"]
    table = make_table("criterion", *columns, *(["against the baseline", "p"] if compared else []))
    for found in statistics:
        score, rate, against = found["score"], found["pass_rate"], found["against_baseline"]
        cells = [
            str(score["rows"]),
            f"{score['mean']:.4f}",
            f"{score['low']:.4f} – {score['high']:.4f}",
            f"{rate['mean']:.1%}",
            f"{rate['low']:.1%} – {rate['high']:.1%}",
        ]
        if against:
            cells += [
                f"{against['difference']:+.4f} ({against['low']:+.4f} to {against['high']:+.4f})",
                f"{against['p_value']:.3f}",
            ]
        table.add_row(found["name"], *cells)
    print()
    print_table(table)


def _last(client: "OpenAI", eval_id: str) -> str:
    for run in client.evals.runs.list(eval_id, order="desc", status="completed", limit=1).data:
        return run.id
    raise CliError("There is no earlier run of this file to compare with.", advice="Leave --baseline out once.")


def _eval_of(client: "OpenAI", run_id: str) -> str:
    for each in client.evals.list(order="desc", limit=LIST_LIMIT):
        if any(run.id == run_id for run in client.evals.runs.list(each.id, limit=LIST_LIMIT)):
            return each.id
    raise CliError(f"There is no run {run_id}.", advice="`flywheel eval list` shows all.")
