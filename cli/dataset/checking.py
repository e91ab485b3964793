"""A file on this machine, looked at as the gateway and a job will."""

from pathlib import Path
from statistics import median

from cli.dataset.building import describe_kinds
from cli.errors import CliError
from contracts.dataset_inspection import (
    Repeat,
    RowText,
    estimate_tokens,
    find_leaks,
    find_repeats,
    search_personal_data,
)
from contracts.datasets import read_rows
from contracts.errors import InvalidTrainingFile

MOST_SHOWN = 5


def check_file(file: Path) -> tuple[str, list[RowText], list[tuple[str, str]]]:
    """Its kind, its texts, and lines for a person. Raises CliError that names the broken row."""
    try:
        with file.open("rb") as source:
            kind, rows = read_rows(source, filename=file.name)
            texts = [RowText.of(row) for row in rows]
    except FileNotFoundError:
        raise CliError(f"There is no file {file}.") from None
    except InvalidTrainingFile as error:
        raise CliError(error.message) from None
    lengths = sorted(estimate_tokens(text.whole) for text in texts)
    repeats, found = find_repeats(texts), search_personal_data(texts)
    where = f" in rows {_numbers(found.rows)}" if found.rows else ""
    lines = [
        ("rows", f"{len(texts):,}"),
        ("tokens, about", f"{sum(lengths):,}; a row {median(lengths):,.0f}, at most {lengths[-1]:,}"),
        (
            "repeats",
            f"{len(repeats.exact):,} exact{_pairs(repeats.exact)}, {len(repeats.near):,} near{_pairs(repeats.near)}",
        ),
        ("personal data", describe_kinds(found.counts) + where),
    ]
    return kind, texts, lines


def check_leakage(training: list[RowText], validation: list[RowText]) -> list[tuple[str, str]]:
    leaks = find_leaks(training, validation)
    told = f"rows that are in the training file too: {len(leaks.exact):,}{_pairs(leaks.exact)}"
    return [("leakage", f"{told}; nearly: {len(leaks.near):,}{_pairs(leaks.near)}")]


def _pairs(repeats: list[Repeat]) -> str:
    """For example ` (7 as 2, 9 as 3, …)`."""
    told = [f"{repeat.number} as {repeat.earlier}" for repeat in repeats[:MOST_SHOWN]]
    return f" ({', '.join(told)}{', …' if len(repeats) > MOST_SHOWN else ''})" if told else ""


def _numbers(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:MOST_SHOWN])) + (", …" if len(rows) > MOST_SHOWN else "")
