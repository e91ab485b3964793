"""`flywheel dataset`: training files from captured answers or a table, and what to know of a file before a job."""

import csv
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import openai_client
from cli.durations import seconds_of
from cli.errors import CliError

if TYPE_CHECKING:
    from cli.dataset.building import BuiltRow

app = typer.Typer(help="Make and check training files.", no_args_is_help=True)
Out = Annotated[Path, typer.Option(help="The file to write.")]
ValidationShare = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of the questions that goes to OUT.validation.jsonl.")
]


class Source(StrEnum):
    CAPTURES = "captures"


class Rating(StrEnum):
    UP = "up"
    DOWN = "down"


class Format(StrEnum):
    CHAT = "chat"
    PREFERENCE = "preference"


@app.command("build")
def build_dataset(
    out: Out,
    _source: Annotated[Source, typer.Option("--from", help="Where the rows come from.")] = Source.CAPTURES,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only answers whose feedback has this tag.")] = None,
    rating: Annotated[Rating | None, typer.Option(help="Only answers that were rated so.")] = None,
    since: Annotated[str | None, typer.Option(help="Only answers of the last 12h, 7d, ….")] = None,
    corrections_only: Annotated[bool, typer.Option("--corrections-only", help="Only corrected answers.")] = False,
    format: Annotated[
        Format, typer.Option(help="chat: what to say; preference: the correction before the answer, for DPO.")
    ] = Format.CHAT,
    validation_share: ValidationShare = 0.0,
) -> None:
    """Write a training file from captured answers, corrections in place of what was corrected."""
    from cli.dataset.building import chat_row, preference_row
    from cli.dataset.captures import choose, fetch_captures

    preference = format is Format.PREFERENCE
    with openai_client() as client:
        captures = list(
            fetch_captures(
                client,
                model=model,
                tag=tag,
                rating=None if rating is None else rating.value,
                since=None if since is None else int(time.time()) - seconds_of(since),
                corrected=True if corrections_only or preference else None,
            )
        )
    selection = choose(captures, rating=None if rating is None else rating.value, preference=preference)
    rows: list[BuiltRow] = []
    for answer in selection.answers:
        better = answer.correction
        if preference and better is not None:
            rows.append(preference_row(answer.asked, preferred=better, other=answer.answer))
        else:
            rows.append(chat_row(answer.asked, better or answer.answer))
    about = [("captures", f"{len(captures):,}")]
    about += [("  left out", f"{count:,}: {reason}") for reason, count in selection.left_out.most_common()]
    about += [("  models", _told(Counter(answer.model for answer in selection.answers)))]
    about += [("  corrected", f"{sum(answer.correction is not None for answer in selection.answers):,}")]
    about += [("  rated up", f"{sum(answer.rating == 'up' for answer in selection.answers):,}")]
    if not rows:
        raise CliError("No captured answer fits.", advice="docs/capture.md tells how answers are captured and judged.")
    _write(rows, out, validation_share, about)


@app.command("from-csv")
def dataset_from_csv(
    file: Annotated[Path, typer.Argument(help="A CSV file whose first line names the columns.")],
    out: Out,
    prompt_column: Annotated[str, typer.Option(help="The column of what is asked.")],
    answer_column: Annotated[str, typer.Option(help="The column of what shall be answered.")],
    system: Annotated[str | None, typer.Option(help="A system message before each question.")] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Take out the personal data that is found.")] = False,
    validation_share: ValidationShare = 0.0,
) -> None:
    """Write a training file from a table of questions and answers."""
    from cli.dataset.building import chat_row
    from contracts.personal_data import redact as take_out

    rows: list[BuiltRow] = []
    empty = 0
    for asked, said in _pairs(file, prompt_column, answer_column):
        if not asked or not said:
            empty += 1
            continue
        texts = (take_out(asked).text, take_out(said).text) if redact else (asked, said)
        begin = [] if system is None else [("system", system)]
        rows.append(chat_row([*begin, ("user", texts[0])], texts[1]))
    about = [("lines", f"{len(rows) + empty:,}")]
    about += [("  left out", f"{empty:,}: nothing asked or nothing answered")] if empty else []
    if not rows:
        raise CliError(f"{file} has no line with both columns filled.")
    _write(rows, out, validation_share, about)


@app.command("check")
def check_dataset(
    file: Annotated[Path, typer.Argument(help="A training file.")],
    validation: Annotated[Path | None, typer.Option(help="Its validation file, to look for leakage.")] = None,
) -> None:
    """Check a training file as the gateway and a job will, but for what needs the model's tokenizer."""
    from cli.dataset.checking import check_file, check_leakage

    kind, texts, lines = check_file(file)
    _print([("file", f"{file}: {kind}"), *lines])
    if validation is not None:
        _, others, lines = check_file(validation)
        _print([("file", f"{validation}"), *lines, *check_leakage(texts, others)])


def _pairs(file: Path, prompt_column: str, answer_column: str) -> list[tuple[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as source:
            reader = csv.DictReader(source, strict=True)
            columns = reader.fieldnames or ()
            if missing := [name for name in (prompt_column, answer_column) if name not in columns]:
                raise CliError(f"{file} has no column `{missing[0]}`.", advice=f"It has: {', '.join(columns)}.")
            return [((row[prompt_column] or "").strip(), (row[answer_column] or "").strip()) for row in reader]
    except FileNotFoundError:
        raise CliError(f"There is no file {file}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CliError(f"{file} cannot be read as CSV in UTF-8: {error}.") from None


def _write(rows: "list[BuiltRow]", out: Path, validation_share: float, about: list[tuple[str, str]]) -> None:
    from cli.dataset.building import build, describe, validation_path, write

    dataset = build(rows, validation_share=validation_share)
    repeats = dataset.repeats
    about.append(("repeats", f"{len(repeats.exact):,} exact, {len(repeats.near):,} near; left out"))
    write(dataset.training, out)
    _print([*about, ("written", str(out)), *describe(dataset.training)])
    if dataset.validation:
        write(dataset.validation, validation_path(out))
        _print([("written", str(validation_path(out))), *describe(dataset.validation)])


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _print(lines: list[tuple[str, str]]) -> None:
    for name, text in lines:
        typer.echo(f"{name:<14} {text}")
