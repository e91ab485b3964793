"""`flywheel models`: what the gateway serves."""

from cli.client import openai_client
from cli.tables import make_table, print_table


def models() -> None:
    """List the models that this key may use, and whether an engine serves them now."""
    with openai_client() as client:
        known = client.models.list().data
    table = make_table("model", "task", "state", "made from", "licence")
    for model in known:
        extra = model.model_extra or {}
        told = (extra.get(name) or "" for name in ("task", "state", "parent", "licence"))
        table.add_row(model.id, *(str(value) for value in told))
    print_table(table)
