"""The terminal, as rich sees it."""

from rich.console import Console


def console(width: int | None = None) -> Console:
    """Prints text as it is: in `ft:base:tenant:ship:id` is no emoji, and nothing in brackets is mark-up."""
    return Console(width=width, emoji=False, markup=False, highlight=False)
