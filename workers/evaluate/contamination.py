"""Whether rows of an evaluation are, or nearly are, in what a model learnt from: then their scores tell little."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.dataset_inspection import RowText, SeenTexts
from contracts.datasets import read_rows
from contracts.errors import InvalidTrainingFile
from contracts.eval_items import EvalItem
from contracts.evals import Contamination
from contracts.models import ModelCard
from workers.run import JobResources, JobRun

MOST_ANCESTORS = 16
FEWEST_WORDS = 5
"""Shorter texts, such as a year or a label, are the same by chance."""


def find_contamination(model: str, items: Sequence[EvalItem], run: JobRun) -> tuple[Contamination, ...]:
    """Of the model and of those it was made from, as far as their training files are still there."""
    found = []
    for card in _lineage(model, run.resources):
        job = None if card.job is None else run.resources.jobs.get(card.job)
        if job is None:
            continue
        run.check()
        seen = _training_texts(job.spec.get("training_file"), job.tenant, run.resources)
        if seen is None:
            continue
        rows = tuple(number for number, item in enumerate(items, start=1) if _is_in(item, seen))
        if rows:
            found.append(Contamination(model=card.name, job=job.id, rows=rows))
    return tuple(found)


def _is_in(item: EvalItem, seen: SeenTexts) -> bool:
    texts = [RowText(0, text, "") for text in _texts(item.item)]
    return any(
        len(text.words) >= FEWEST_WORDS and (seen.same_as(text) is not None or seen.similar_to(text) is not None)
        for text in texts
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _lineage(model: str, resources: JobResources) -> Iterator[ModelCard]:
    """The model and its ancestors; none for a model of others."""
    name: str | None = model
    for _ in range(MOST_ANCESTORS):
        card = None if name is None else resources.models.get(name)
        if card is None:
            return
        yield card
        name = card.parent


def _training_texts(file_id: Any, tenant: str, resources: JobResources) -> SeenTexts | None:
    """What is asked and what is answered in a training file, each by itself. None where the file is gone."""
    file = resources.files.get(file_id, tenant=tenant) if isinstance(file_id, str) else None
    if file is None:
        return None
    seen = SeenTexts()
    try:
        _, rows = read_rows(resources.artifacts.lines(file.artifact), filename=file.filename)
        for row in rows:
            text = RowText.of(row)
            for part in (text.asked, text.said):
                seen.add(RowText(text.number, part, ""))
    except (FileNotFoundError, InvalidTrainingFile):
        return None
    return seen
