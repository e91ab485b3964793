"""`flywheel models`: what the gateway serves, and where a model comes from."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from cli.client import openai_client
from cli.errors import CliError
from cli.tables import WIDE, make_table, print_table
from cli.terminal import console

app = typer.Typer(help="List models, and show where one comes from.")


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the models that this key may use, and whether an engine serves them now."""
    if context.invoked_subcommand is not None:
        return
    table = make_table("model", "kind", "task", "state", "made from", "licence")
    for model in _known().values():
        told = (model.get(name) or "" for name in ("kind", "task", "state", "parent", "licence"))
        table.add_row(model["id"], *(str(value) for value in told))
    print_table(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A model, as `flywheel models` lists it.")]) -> None:
    """Show a model, what it was made from, and what was made from it."""
    known = _known()
    if name not in known:
        raise CliError(f"There is no model {name}, or this key may not use it.", "`flywheel models` lists them.")
    console(width=None if console().is_terminal else WIDE).print(_lineage(name, known))


@app.command()
def card(name: Annotated[str, typer.Argument(help="A model, as `flywheel models` lists it.")]) -> None:
    """Print a model's card for the Hugging Face Hub: its origin, what was measured, its limits."""
    with openai_client() as client:
        typer.echo(client.get(f"/flywheel/model_cards/{name}", cast_to=str))


def _known() -> dict[str, dict[str, Any]]:
    with openai_client() as client:
        return {model.id: model.model_dump() for model in client.models.list().data}


def _lineage(name: str, known: dict[str, dict[str, Any]]) -> Tree:
    """Its ancestors from the base down to it, and below it all that was made from it."""
    line = [name]
    while (parent := (known.get(line[0]) or {}).get("parent")) is not None and parent not in line:
        line.insert(0, parent)
    top = branch = Tree(_title(line[0], known, chosen=line[0] == name))
    for one in line[1:]:
        branch = branch.add(_title(one, known, chosen=one == name))
    for fact in _facts(known[name]):
        branch.add(fact)
    _add_children(branch, name, known)
    return top


def _add_children(branch: Tree, name: str, known: dict[str, dict[str, Any]]) -> None:
    for child in known.values():
        if child.get("parent") == name:
            _add_children(branch.add(_title(child["id"], known)), child["id"], known)


def _title(name: str, known: dict[str, dict[str, Any]], *, chosen: bool = False) -> Text:
    model = known.get(name)
    told = "not visible to this key" if model is None else f"{model['kind']}, {model['task']}, {model['state']}"
    return Text.assemble((name, "bold" if chosen else ""), "  ", (told, "dim"))


def _facts(model: dict[str, Any]) -> list[Text]:
    facts = {
        "created": datetime.fromtimestamp(model["created"], UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "licence": model["licence"],
        "context": f"{model['max_model_len']} tokens",
        "engines": ", ".join(model["engines"]),
        "job": model["job"],
        "data": model["data_digest"],
        "weights": model["digest"],
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in model["metrics"].items()),
    }
    return [Text.assemble((f"{name}: ", "dim"), str(value)) for name, value in facts.items() if value]
