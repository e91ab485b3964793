"""Writes a run's report: `report.html` for people, `report.json` for programs, and the pictures."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from contracts.evals import Eval, EvalRun, OutputItem, RunResults
from workers.evaluate import pictures

TEMPLATES = Path(__file__).with_name("templates")
MOST_SHOWN = 10
"""Rows of a kind that the page shows; all of them are in the API's output items."""


def write_report(
    of: Eval,
    run: EvalRun,
    results: RunResults,
    items: Sequence[OutputItem],
    folder: Path,
    *,
    before: Sequence[EvalRun] = (),
) -> None:
    """`before` are earlier runs of the eval with the same model, oldest first, beside which this one is drawn."""
    folder.mkdir(parents=True)
    drawn = _draw(results, items)
    runs = [*before, run.model_copy(update={"results": results})]
    if (over_time := pictures.history(runs)) is not None:
        drawn["history"] = over_time
        (folder / "history.png").write_bytes(pictures.history(runs, form="png") or b"")
    for name, picture in drawn.items():
        (folder / f"{name}.svg").write_bytes(picture)
    (folder / "report.html").write_text(
        render(
            "run.html.j2",
            of=of,
            run=run,
            results=results,
            pictures=drawn,
            counts={status: sum(item.status == status for item in items) for status in ("pass", "fail", "error")},
            shown={
                status: [item for item in items if item.status == status][:MOST_SHOWN]
                for status in ("error", "fail", "pass")
            },
        )
    )
    told = {
        "eval": of.model_dump(mode="json", by_alias=True),
        "run": run.model_dump(mode="json", exclude={"results"}),
        "results": results.model_dump(mode="json"),
    }
    (folder / "report.json").write_text(json.dumps(told, indent=1))


def render(template: str, *, pictures: dict[str, bytes], **values: Any) -> str:
    """A page with its pictures in it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        pictures={name: Markup(_inline(picture)) for name, picture in pictures.items()},  # noqa: S704 (drawn here)
        **values,
    )


def _draw(results: RunResults, items: Sequence[OutputItem]) -> dict[str, bytes]:
    if not results.statistics:
        return {}
    drawn: dict[str, bytes | None] = {
        "bars": pictures.bars(results.statistics),
        "differences": pictures.differences(results.statistics),
        "radar": pictures.radar(results.statistics),
    }
    for number, found in enumerate(results.statistics):
        scores = [result.score for item in items for result in item.results if result.name == found.name]
        drawn[f"scores-{number}"] = pictures.histogram(found.name, scores)
        drawn[f"confusion-{number}"] = pictures.confusion_matrix(found)
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _inline(picture: bytes) -> str:
    """Without the XML declaration, which has no place inside a page."""
    text = picture.decode()
    return text[text.index("<svg") :]
