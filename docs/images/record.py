"""Runs a command in a terminal of its own and draws what stands there in the end, as SVG.

uv run --no-project --with pyte --with rich docs/images/record.py docs/images/make-up.svg make up
"""

import os
import pty
import sys
from io import StringIO
from itertools import groupby

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 110, 200
COLOURS = {"red": "red", "green": "green", "brown": "yellow", "cyan": "cyan", "blue": "blue", "default": None}


def run(command: list[str]) -> pyte.Screen:
    """The terminal after the command's end, with the command line above."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {' '.join(command)}\r\n".encode())
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "40"}

    def show(descriptor: int) -> bytes:
        output = os.read(descriptor, 65536)
        stream.feed(output)
        return output

    pty.spawn(command, show)
    return screen


def draw(screen: pyte.Screen) -> Text:
    lines = [_line(screen.buffer[number]) for number in range(LINES)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return Text("\n").join(lines)


def _line(cells: dict[int, pyte.screens.Char]) -> Text:
    line = Text()
    row = [cells[column] for column in range(COLUMNS)]
    for (colour, bold), run_of_cells in groupby(row, key=lambda cell: (cell.fg, cell.bold)):
        style = Style(color=COLOURS.get(colour, f"#{colour}" if len(colour) == 6 else None), bold=bold)
        line.append("".join(cell.data for cell in run_of_cells), style)
    line.rstrip()
    return line


def main() -> None:
    target, *command = sys.argv[1:]
    text = draw(run(command))
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(text)
    console.save_svg(target, title=" ".join(command))


if __name__ == "__main__":
    main()
