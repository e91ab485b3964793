"""`flywheel optimise`: makes a model smaller and faster, and tells what that costs. `flywheel studies` looks at it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from cli.bootstrap import Bootstrap, BootstrapError
from cli.client import openai_client
from cli.errors import CliError
from cli.home import REPOSITORY, environment_python
from cli.job_progress import FINAL, follow_events
from cli.study_table import print_study
from cli.tables import make_table, print_table

if TYPE_CHECKING:
    from openai import OpenAI

PATH = "/flywheel/studies"
HELD_OUT = REPOSITORY / "examples" / "questions_held_out.jsonl"
FORMS = {"report.html": "html", "pareto.png": "png", "pareto.svg": "svg", "report.json": "json"}
COMPRESS = "compress"

app = typer.Typer(help="Studies of efficiency that were made.", no_args_is_help=True)
StudyId = Annotated[str, typer.Argument(help="A study's id: `ftjob-…`.")]
Folder = Annotated[Path | None, typer.Option("--report", help="Write report and pictures into this folder.")]


def optimise(
    model: str,
    target: Annotated[Literal["latency", "memory", "quality"], typer.Option(help="What to make better.")] = "latency",
    max_ttft_ms: Annotated[float | None, typer.Option(help="Longest time to a first token, one stream.")] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Least score, 0 to 1; 95 % of the model's own if left out.")
    ] = None,
    max_memory_gib: Annotated[float | None, typer.Option(help="Most memory of an engine.")] = None,
    held_out: Annotated[Path, typer.Option(help="A JSONL file of conversations to score answers on.")] = HELD_OUT,
    text: Annotated[Path | None, typer.Option(help="A .txt file to measure perplexity on.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Text or conversations to learn from; the model's own words if left out.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="A YAML file with `variants` and other fields of a study.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Begin no further variant after so many minutes, and end with those there are.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the study to its end.")] = False,
    report: Folder = None,
) -> None:
    """Make variants of MODEL, measure each by serving it, and recommend one."""
    body: dict[str, Any] = {"model": model, "target": target, **_read_plan(plan)}
    asked = {"max_ttft_ms": max_ttft_ms, "min_score": min_score, "max_memory_gib": max_memory_gib}
    body["constraints"] = body.get("constraints", {}) | {name: it for name, it in asked.items() if it is not None}
    if max_minutes is not None:
        body["max_minutes"] = max_minutes
    _install_compress()
    with openai_client() as client:
        for field, file in (("conversations_file", held_out), ("text_file", text), ("training_file", train)):
            if file is not None:
                body[field] = _upload(client, file)
        study: dict[str, Any] = client.post(PATH, body=body, cast_to=dict[str, Any])
        count = len(study["plan"]["variants"])
        print(f"Study {study['id']} is queued: {count} variants of {model}, for {target}.")
        if not watch:
            print(f"Follow it with `flywheel studies watch {study['id']}`.")
            return
        _follow(client, study["id"], report or Path(f"study-{study['id'].rpartition('-')[2][:8]}"))


@app.command("watch")
def watch_study(study_id: StudyId, report: Folder = None) -> None:
    """Follow a study to its end, and show it. Ctrl-C leaves it running."""
    with openai_client() as client:
        _follow(client, study_id, report)


@app.command("show")
def show_study(study_id: StudyId, report: Folder = None) -> None:
    """Show a study's figures, and write its report."""
    with openai_client() as client:
        _show(client, study_id, report)


@app.command("list")
def list_studies(limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 10) -> None:
    """List studies, newest first."""
    table = make_table("study", "model", "target", "status", "recommended")
    with openai_client() as client:
        page: Any = client.get(PATH, options={"params": {"limit": limit}}, cast_to=object)
        for study in page["data"]:
            named = study["recommended_model"] or "–"
            table.add_row(study["id"], study["model"], study["plan"]["target"], study["status"], named)
    print_table(table)


@app.command("cancel")
def cancel_study(study_id: StudyId) -> None:
    """Cancel a study."""
    with openai_client() as client:
        client.post(f"{PATH}/{study_id}/cancel", cast_to=object)
    print(f"{study_id} is cancelled.")


@app.command("keep")
def keep_variant(study_id: StudyId, variant: str) -> None:
    """Register the model of a variant on the frontier, so that it can be asked and released."""
    with openai_client() as client:
        kept: Any = client.post(f"{PATH}/{study_id}/models", body={"variant": variant}, cast_to=object)
    print(f"The model is {kept['id']}.\n\n{_release_line(kept['id'])}")


def _follow(client: "OpenAI", study_id: str, report: Path | None) -> None:
    def has_ended() -> bool:
        return _get(client, study_id)["status"] in FINAL

    follow_events(client, study_id, doing="learning", has_ended=has_ended)
    study = _get(client, study_id)
    if study["status"] != "succeeded":
        why = (study["error"] or {}).get("message", f"it {study['status']}")
        raise CliError(f"The study has no result: {why}", advice="The worker's log tells more.")
    _show(client, study_id, report)


def _show(client: "OpenAI", study_id: str, report: Path | None) -> None:
    study = _get(client, study_id)
    print()
    print_study(study)
    if (advice := study["recommendation"]) is None:
        print(f"\nThe study is {study['status']}.")
        return
    print(f"\nOn the frontier (*): {', '.join(study['frontier'])}.")
    print(f"For {study['plan']['target']}: {advice['variant'] or 'none'}. {advice['reason']}")
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        for name, form in FORMS.items():
            answer = client.get(f"{PATH}/{study_id}/report", options={"params": {"form": form}}, cast_to=bytes)
            (report / name).write_bytes(answer)
        print(f"The report is {report / 'report.html'}, the picture {report / 'pareto.png'}.")
    if study["recommended_model"] is not None:
        print(f"\nThe model is {study['recommended_model']}. {_release_line(study['recommended_model'])}")


def _release_line(model: str) -> str:
    return (
        "To let it take an alias's place through the gates:\n"
        f"flywheel release start ALIAS {model} --policy examples/release-policy.yaml --evaluate-on FILE --watch"
    )


def _get(client: "OpenAI", study_id: str) -> dict[str, Any]:
    study: dict[str, Any] = client.get(f"{PATH}/{study_id}", cast_to=dict[str, Any])
    return study


def _read_plan(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        plan = yaml.safe_load(file.read_text())
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise CliError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(plan, dict):
        raise CliError(f"{file} has no fields.", advice="examples/study.yaml is one.")
    return plan


def _upload(client: "OpenAI", file: Path) -> str:
    if not file.is_file():
        raise CliError(f"There is no file {file}.")
    with file.open("rb") as source:
        return client.files.create(file=source, purpose="fine-tune").id


def _install_compress() -> None:
    """llmcompressor, for the worker of a stack on this machine; others have theirs."""
    if os.environ.get("FLYWHEEL_BASE_URL") or not environment_python("worker").is_file():
        return
    try:
        Bootstrap().make([COMPRESS])
    except BootstrapError as error:
        raise CliError(f"The environment of llmcompressor could not be made. {error}") from None
