"""`flywheel aliases`: names that go on standing for a model while the models change."""

from typing import Annotated, Any

import typer

from cli.client import openai_client
from cli.tables import make_table, print_table

PATH = "/flywheel/aliases"
app = typer.Typer(help="Create, list and delete aliases. Needs a key of scope admin.", no_args_is_help=True)


@app.command("create")
def create(
    name: str,
    model: Annotated[str, typer.Option(help="The stable model that it stands for.")],
    shared: Annotated[bool, typer.Option("--shared", help="For every tenant, and not this key's alone.")] = False,
) -> None:
    """Create an alias of a model."""
    with openai_client() as client:
        client.post(PATH, body={"name": name, "model": model, "shared": shared}, cast_to=object)
    print(f"{name} stands for {model}.")


@app.command("list")
def list_aliases() -> None:
    """List this tenant's aliases and the shared ones."""
    with openai_client() as client:
        answer: Any = client.get(PATH, cast_to=object)
    table = make_table("alias", "model", "for", "release under way")
    for alias in answer["data"]:
        table.add_row(alias["name"], alias["model"], alias["tenant"] or "every tenant", alias["release"] or "")
    print_table(table)


@app.command("delete")
def delete(name: str) -> None:
    """Delete an alias. Its models stay."""
    with openai_client() as client:
        client.delete(f"{PATH}/{name}", cast_to=object)
    print(f"{name} is no alias any more.")
