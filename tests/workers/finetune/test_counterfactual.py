"""Counterfactual rows: what is swapped, how it is written, and what is left alone."""

import pytest

from contracts.chat_dataset import ChatExample, ChatTurn
from contracts.datasets import NumberedRow, TextRow
from contracts.fine_tuning import DpoSpec, SupervisedSpec
from workers.finetune.augmentation import augmented
from workers.finetune.counterfactual import counterfactual, swap, with_counterfactuals


def chat(asked: str, said: str) -> ChatExample:
    return ChatExample([ChatTurn("user", asked), ChatTurn("assistant", said)])


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("He is a nurse.", "She is a nurse."),
        ("HE said: she's late.", "SHE said: he's late."),
        ("The woman gave him her book.", "The man gave her his book."),
        ("I saw her in town, and her brother too.", "I saw him in town, and his sister too."),
        ("Is it his? Yes, it is his car.", "Is it hers? Yes, it is her car."),
        ("The car is hers.", "The car is his."),
        ("He hurt himself; ask her.", "She hurt herself; ask him."),
        ("Her mum is a policewoman.", "His dad is a policeman."),
        ("Mr Weber asks for Ms Berger.", "Ms Weber asks for Mr Berger."),
        ("Anna and Omar are here.", "Peter and Fatima are here."),
        ("José’s sister is a doctor.", "María’s brother is a doctor."),
        ("The theory of chemistry.", "The theory of chemistry."),
        ("Shell, this, hermit, mankind.", "Shell, this, hermit, mankind."),
    ],
)
def test_words_have_their_counterparts_and_are_written_as_they_were(text: str, other: str):
    assert swap(text) == other


@pytest.mark.parametrize(
    "text",
    ["He is a nurse.", "I saw her in town, and her brother too.", "Is it hers? Yes, it is her car.", "Anna met him."],
)
def test_swapping_twice_gives_the_text_again(text: str):
    assert swap(swap(text)) == text


def test_all_turns_of_a_row_are_swapped_together():
    found = counterfactual(chat("What does Julia do?", "She repairs her bicycle."))
    assert found == chat("What does Michael do?", "He repairs his bicycle.")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("How high is it?", "Two metres."),
        ("Who was Marie Curie?", "She found radium."),
        ("Can she work?", "She is pregnant and works."),
    ],
)
def test_rows_without_a_true_counterpart_stay_alone(asked: str, said: str):
    assert counterfactual(chat(asked, said)) is None


def test_copies_come_after_the_rows_with_their_numbers():
    plain, about = NumberedRow(1, chat("Hm?", "Yes.")), NumberedRow(3, chat("Who?", "He."))
    assert with_counterfactuals([plain, about]) == [plain, about, NumberedRow(3, chat("Who?", "She."))]
    text = NumberedRow(1, TextRow("He."))
    assert with_counterfactuals([text]) == [text]


def test_only_the_training_file_is_augmented_and_only_where_it_is_asked_for():
    rows = [NumberedRow(1, chat("Who?", "He."))]
    files = {"base_model": "b", "training_file": "f", "training_file_digest": "d"}
    asked = SupervisedSpec.model_validate(files | {"hyperparameters": {"augmentation": "counterfactual"}})
    assert len(augmented(rows, asked, param="training_file")) == 2
    for spec, param in (
        (asked, "validation_file"),
        (SupervisedSpec.model_validate(files), "training_file"),
        (DpoSpec.model_validate(files), "training_file"),
    ):
        assert augmented(rows, spec, param=param) is rows
