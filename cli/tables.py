"""Tables as commands print them: fitted to a terminal, whole where the output goes elsewhere."""

from rich.table import Table

from cli.terminal import console

WIDE = 240


def make_table(first: str, *columns: str) -> Table:
    """A table whose first column is never cut, so that it can be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, no_wrap=True, overflow="ignore")
    for column in columns:
        table.add_column(column)
    return table


def print_table(table: Table) -> None:
    cells = list(table.columns[0].cells)
    table.columns[0].min_width = max(len(str(cell)) for cell in cells)
    console(width=None if console().is_terminal else WIDE).print(table)
