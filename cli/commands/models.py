"""`flywheel models`: what the gateway serves."""

from rich.console import Console
from rich.table import Table

from cli.client import openai_client


def models() -> None:
    """List the models that this key may use, and whether an engine serves them now."""
    with openai_client() as client:
        known = client.models.list().data
    table = Table("model", "task", "state", "made from", "licence", box=None, header_style="bold", pad_edge=False)
    table.columns[0].no_wrap = True
    for model in known:
        extra = model.model_extra or {}
        told = (extra.get(name) or "" for name in ("task", "state", "parent", "licence"))
        table.add_row(model.id, *(str(value) for value in told))
    console = Console()
    console.print(table, width=None if console.is_terminal else 200)
