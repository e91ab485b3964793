"""How well a model finds entities: F1 over whole spans with their labels (by nervaluate, its `strict` scheme)."""

from collections.abc import Sequence
from dataclasses import dataclass

from nervaluate import Evaluator


@dataclass(frozen=True, slots=True)
class Span:
    """`start` and `end` are places in the text, `end` past the last letter."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EntityReport:
    """A span is found when its label and both its ends are right (CoNLL-2003's rule)."""

    precision: float
    recall: float
    f1: float
    per_label: dict[str, dict[str, float]]


def entity_report(right: Sequence[Sequence[Span]], given: Sequence[Sequence[Span]]) -> EntityReport:
    """One list of spans for each text."""
    labels = sorted({span.label for spans in (*right, *given) for span in spans})
    if not labels:
        return EntityReport(precision=0.0, recall=0.0, f1=0.0, per_label={})
    found = Evaluator(_dicts(right), _dicts(given), tags=labels, loader="dict").evaluate()
    overall = found["overall"]["strict"]
    return EntityReport(
        precision=float(overall.precision),
        recall=float(overall.recall),
        f1=float(overall.f1),
        per_label={
            label: {
                "precision": float(each["strict"].precision),
                "recall": float(each["strict"].recall),
                "f1": float(each["strict"].f1),
                "rows": int(each["strict"].possible),
            }
            for label, each in found["entities"].items()
        },
    )


def spans_of(tokens: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """Of BIO tags, in the text of the tokens with blanks between. An `I-` that continues nothing begins a span."""
    spans: list[Span] = []
    place, open_label = 0, ""
    for token, tag in zip(tokens, tags, strict=True):
        position, _, label = tag.partition("-")
        if position == "I" and label == open_label:
            spans[-1] = Span(label, spans[-1].start, place + len(token))
        elif label:
            spans.append(Span(label, place, place + len(token)))
        open_label = label
        place += len(token) + 1
    return spans


def _dicts(texts: Sequence[Sequence[Span]]) -> list[list[dict[str, object]]]:
    return [[{"label": span.label, "start": span.start, "end": span.end} for span in spans] for spans in texts]
