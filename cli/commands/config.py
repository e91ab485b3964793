"""`flywheel config`: every setting, its value, and where the value comes from."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import typer
from pydantic import BaseModel, SecretStr

from cli.home import Home
from cli.local_stack import LocalStack, settings_from
from cli.tables import make_table, print_table
from cli.terminal import console

MASK = "********"


@dataclass(frozen=True, slots=True)
class Setting:
    variable: str
    value: str
    source: str
    description: str


def config() -> None:
    """Show every setting with its value, source and meaning. Secrets are masked."""
    stack = LocalStack.read(Home.find())
    local = {} if stack is None else stack.settings
    said = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith("FLYWHEEL_") and value}
    settings = settings_from(local | said)
    sources = dict.fromkeys(local, "local stack") | dict.fromkeys(said, "environment")
    table = make_table("setting", "value", "source", "meaning")
    rows = list(describe(settings, sources))
    for row in rows:
        table.add_row(row.variable, row.value, row.source, row.description)
    if console().is_terminal:
        print_table(table)
        return
    for row in rows:
        typer.echo(f"{row.variable}\t{row.value}\t{row.source}\t{row.description}")


def describe(section: BaseModel, sources: dict[str, str], prefix: str = "FLYWHEEL_") -> Iterator[Setting]:
    """The settings of a section and of the sections in it."""
    for name, field in type(section).model_fields.items():
        value, variable = getattr(section, name), f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from describe(value, sources, f"{variable}__")
            continue
        yield Setting(variable, _shown(value), sources.get(variable, "default"), field.description or "")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return "" if value is None else str(value)
