"""`flywheel release`: lets a candidate take the place of an alias's stable model, step by step."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.text import Text

from cli.client import openai_client
from cli.errors import CliError
from cli.release_progress import NO_CONTROLLER, counted, waits_for
from cli.tables import make_table, print_table
from contracts.releases import FINAL_STATES

if TYPE_CHECKING:
    from openai import OpenAI

PATH = "/flywheel/releases"
POLL_S = 1.0
COLOURS = {"pass": "green", "fail": "red", "unsure": "yellow"}
PERCENT_GATES = ("error_rate", "error_rate_bound", "feedback")

app = typer.Typer(help="Release a candidate for an alias. Needs a key of scope admin.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(help="A release's id, or an alias: then its newest release.")]
Reason = Annotated[str | None, typer.Option(help="Why; it is kept with the move.")]


@app.command("start")
def start(
    alias: str,
    candidate: str,
    policy: Annotated[Path | None, typer.Option(help="A YAML file; the default policy without.")] = None,
    evaluate_on: Annotated[
        Path | None, typer.Option(help="A JSONL file of conversations that the candidate did not learn from.")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow the release to its end.")] = False,
) -> None:
    """Release CANDIDATE for ALIAS."""
    wanted: dict[str, Any] = {"alias": alias, "candidate": candidate}
    if policy is not None:
        wanted["policy"] = _read_policy(policy)
    with openai_client() as client:
        if evaluate_on is not None:
            wanted["evaluation_file"] = _upload(client, evaluate_on)
        release: Any = client.post(PATH, body=wanted, cast_to=object)
        print(f"{release['id']}: {candidate} is to take the place of {release['stable']} as {alias}.")
        if watch_it:
            _follow(client, release["id"])


@app.command("status")
def status(which: Which) -> None:
    """Show where a release is, what was counted, and each move with its evidence."""
    with openai_client() as client:
        release = _find(client, which)
    print(_headline(release))
    for move in release["moves"]:
        _print_move(move)
    if release["evidence"] is not None:
        print("\nthe last look at this stage:")
        _print_gates(release["evidence"])
    if release["figures"] is not None:
        print(counted(release))
    if release["finished_at"] is None and not release["controlled"]:
        print(f"\n{NO_CONTROLLER}")


@app.command("watch")
def watch(which: Which) -> None:
    """Follow a release to its end. Exit code 1 if it is rolled back. Ctrl-C leaves it as it is."""
    with openai_client() as client:
        _follow(client, _find(client, which)["id"])


@app.command("promote")
def promote(which: Which, reason: Reason = None) -> None:
    """Make the candidate the stable model now, whatever the gates say."""
    with openai_client() as client:
        release = _conclude(client, which, "promote", reason)
    print(f"{release['alias']} stands for {release['candidate']} now.")


@app.command("rollback")
def rollback(which: Which, reason: Reason = None) -> None:
    """Go back to the stable model now, also after the promotion."""
    with openai_client() as client:
        release = _conclude(client, which, "rollback", reason)
    print(f"{release['alias']} stands for {release['stable']} again.")


def _read_policy(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise CliError(f"{file} is not valid YAML: {error}") from None


def _upload(client: "OpenAI", file: Path) -> str:
    if not file.is_file():
        raise CliError(f"There is no file {file}.", advice="Give the path of a JSONL file of conversations.")
    with file.open("rb") as source:
        return client.files.create(file=source, purpose="fine-tune").id


def _find(client: "OpenAI", which: str) -> Any:
    release_id = which
    if not which.startswith("release-"):
        newest: Any = client.get(PATH, options={"params": {"alias": which, "limit": 1}}, cast_to=object)
        if not newest["data"]:
            raise CliError(f"`{which}` has had no release.", advice="`flywheel release start` starts one.")
        release_id = newest["data"][0]["id"]
    return client.get(f"{PATH}/{release_id}", cast_to=object)


def _conclude(client: "OpenAI", which: str, how: str, reason: str | None) -> Any:
    release = _find(client, which)
    return client.post(f"{PATH}/{release['id']}/{how}", body={"reason": reason}, cast_to=object)


def _follow(client: "OpenAI", release_id: str) -> None:
    shown, told = 0, ""
    while True:
        release = _find(client, release_id)
        for move in release["moves"][shown:]:
            _print_move(move)
        shown = len(release["moves"])
        if release["state"] in FINAL_STATES:
            break
        if (now := waits_for(release)) != told:
            print(told := now)
        time.sleep(POLL_S)
    print(_headline(release))
    if release["state"] == "rolled_back":
        raise typer.Exit(1)


def _headline(release: Any) -> str:
    share = f" at {release['share']:.0%}" if release["state"] in ("canary", "shadow") else ""
    return (
        f"{release['id']}  {release['alias']}: {release['stable']} → {release['candidate']}"
        f"  {release['state'].replace('_', ' ')}{share}"
    )


def _print_move(move: Any) -> None:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(move["created_at"]))
    state = f"canary {move['stage'] + 1}" if move["state"] == "canary" else move["state"].replace("_", " ")
    print(f"\n{at}  {state}  by {move['actor']}\n  {move['reason']}")
    if move["evidence"] is not None:
        _print_gates(move["evidence"])


def _print_gates(evidence: Any) -> None:
    table = make_table("  gate", "verdict", "stable", "candidate", "interval", "of", "samples")
    for gate in evidence["gates"]:
        interval = f"{_number(gate, gate['low'], '−∞')} … {_number(gate, gate['high'], '∞')}"
        table.add_row(
            f"  {gate['rule']}",
            Text(gate["verdict"], COLOURS[gate["verdict"]]),
            _number(gate, gate["stable"]),
            _number(gate, gate["candidate"]),
            interval,
            f"{gate['confidence']:.2%}",
            f"{gate['stable_samples']} / {gate['candidate_samples']}",
        )
    print_table(table)


def _number(gate: Any, value: float | None, unknown: str = "–") -> str:
    if value is None:
        return unknown
    return f"{value:.2%}" if gate["gate"] in PERCENT_GATES else f"{value:.4g}"
