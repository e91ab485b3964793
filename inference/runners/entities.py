"""From labels of words to entities (Ramshaw and Marcus, "Text Chunking using Transformation-Based Learning", 1995)."""

from collections.abc import Sequence

from contracts.classification import Entity, WordLabel

OUTSIDE = "O"


def entities_of(text: str, words: Sequence[WordLabel]) -> list[Entity]:
    """Joins neighbouring words of one kind. `B-` begins an entity; `I-` goes on with one, or begins one after another
    kind; labels without either go on as long as they are the same."""
    spans: list[list[WordLabel]] = []
    last = OUTSIDE
    for word in words:
        begins, kind = _parse(word.label)
        if kind != OUTSIDE:
            if begins or kind != last:
                spans.append([])
            spans[-1].append(word)
        last = kind
    return [_entity(text, span) for span in spans]


def _entity(text: str, words: Sequence[WordLabel]) -> Entity:
    start, end = words[0].start, words[-1].end
    score = sum(word.score for word in words) / len(words)
    return Entity(_parse(words[0].label)[1], text[start:end], start, end, score)


def _parse(label: str) -> tuple[bool, str]:
    """Whether an entity begins here, and its kind."""
    tag, dash, kind = label.partition("-")
    return (tag == "B", kind) if dash and tag in ("B", "I") else (False, label)
