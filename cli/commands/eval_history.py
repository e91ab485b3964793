"""`flywheel eval history`: a model's scores over time."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import openai_client
from cli.errors import CliError
from cli.instructions import TEXT_MODEL
from cli.tables import make_table, print_table

PATH = "/flywheel/eval_history"
FORMS = {".svg": "svg", ".png": "png"}


def history(
    model: Annotated[str, typer.Argument(help="As it was asked: a model, an adapter, an alias, or external/NAME.")] = (
        TEXT_MODEL
    ),
    of_eval: Annotated[str | None, typer.Option("--eval", help="Only of this eval: `eval_…`.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, the newest ones.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write a picture of one eval, or of the newest run's, to this .svg or .png.")
    ] = None,
) -> None:
    """Show a model's scores over time, with their intervals and what drifted."""
    if picture is not None and picture.suffix not in FORMS:
        raise CliError(f"{picture} is neither .svg nor .png.")
    asked: dict[str, Any] = {"limit": limit} | ({} if of_eval is None else {"eval": of_eval})
    with openai_client() as client:
        found: Any = client.get(f"{PATH}/{model}", options={"params": asked}, cast_to=object)
        if as_json:
            print(json.dumps(found, indent=1))
        else:
            _print(model, found["data"])
        if picture is not None:
            params = asked | {"form": FORMS[picture.suffix]}
            drawn = client.get(f"{PATH}/{model}", options={"params": params}, cast_to=bytes)
            picture.write_bytes(drawn)
            if not as_json:
                print(f"\nThe picture is {picture}.")


def _print(model: str, points: list[dict[str, Any]]) -> None:
    if not points:
        print(f"{model} was not evaluated yet.")
        return
    table = make_table("time (UTC)", "eval", "criterion", "rows", "score", "95 % interval", "pass", "drift", "run")
    for point in points:
        score, rate = point["score"], point["pass_rate"]
        table.add_row(
            datetime.fromtimestamp(point["created_at"], UTC).strftime("%Y-%m-%d %H:%M"),
            point["eval_name"],
            point["criterion"],
            str(score["rows"]),
            f"{score['mean']:.4f}",
            f"{score['low']:.4f} – {score['high']:.4f}",
            f"{rate['mean']:.1%}",
            {None: "", "none": "–"}.get(point["drift"], point["drift"]),
            point["run_id"],
        )
    print_table(table)
