"""The expected figures are those of conlleval and scikit-learn for the same tags."""

import pytest

from workers.finetune.scores import Entity, accuracy, entities, entity_f1, macro_f1


def test_names_are_read_from_tags() -> None:
    assert entities(["O", "B-PER", "I-PER", "O", "B-LOC"]) == [Entity("PER", 1, 3), Entity("LOC", 4, 5)]
    assert entities(["B-PER", "B-PER"]) == [Entity("PER", 0, 1), Entity("PER", 1, 2)]
    assert entities(["I-PER", "I-LOC", "I-LOC"]) == [Entity("PER", 0, 1), Entity("LOC", 1, 3)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], 1.0),
        (["B-PER", "O", "O", "B-LOC"], 0.5),
        (["B-PER", "I-PER", "O", "O"], 2 / 3),
        (["B-LOC", "I-LOC", "O", "B-LOC"], 0.5),
        (["O", "O", "O", "O"], 0.0),
    ],
)
def test_a_name_counts_only_whole(found: list[str], expected: float) -> None:
    assert entity_f1([found], [["B-PER", "I-PER", "O", "B-LOC"]]) == pytest.approx(expected)


def test_accuracy_and_macro_f1() -> None:
    found, wanted = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert accuracy(found, wanted) == 0.6
    assert macro_f1(found, wanted) == pytest.approx((0.5 + 0.8 + 0) / 3)
