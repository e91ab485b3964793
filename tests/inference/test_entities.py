"""From labels of words to entities with their places in the text."""

import pytest

from contracts.classification import WordLabel
from inference.runners.entities import entities_of

TEXT = "Ada Byron met Bob Li in Rome"


def label(*labels: str) -> list[WordLabel]:
    words, at = [], 0
    for word, found in zip(TEXT.split(), labels, strict=True):
        at = TEXT.index(word, at)
        words.append(WordLabel(found, at, at + len(word), 0.5))
    return words


@pytest.mark.parametrize(
    ("labels", "entities"),
    [
        ("O O O O O O O", []),
        ("B-PER I-PER O B-PER I-PER O B-LOC", [("PER", "Ada Byron"), ("PER", "Bob Li"), ("LOC", "Rome")]),
        ("B-PER B-PER O O O O O", [("PER", "Ada"), ("PER", "Byron")]),
        ("I-PER I-PER O O O O O", [("PER", "Ada Byron")]),
        ("B-PER I-LOC O O O O O", [("PER", "Ada"), ("LOC", "Byron")]),
        ("PER PER O LOC LOC O O", [("PER", "Ada Byron"), ("LOC", "Bob Li")]),
        ("O O O O O O B-co-op", [("co-op", "Rome")]),
        ("X-ray X-ray O O O O O", [("X-ray", "Ada Byron")]),
    ],
)
def test_words_of_a_kind_are_joined(labels: str, entities: list[tuple[str, str]]):
    found = entities_of(TEXT, label(*labels.split()))

    assert [(entity.label, entity.text) for entity in found] == entities
    assert all(TEXT[entity.start : entity.end] == entity.text for entity in found)


def test_an_entitys_score_is_the_mean_of_its_words():
    words = [WordLabel("B-PER", 0, 3, 0.5), WordLabel("I-PER", 4, 9, 1.0)]
    assert entities_of(TEXT, words)[0].score == 0.75
