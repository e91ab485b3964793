"""A text in pieces is told as the whole would be, wherever the cuts are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.personal_data import PieceRedactor, find_personal_data, redact
from contracts.personal_data.pieces import MOST_HELD_LETTERS, SPACED_LETTERS
from loadtests.redaction import read_labelled

LABELLED = read_labelled()
PROSE = "The wheel turns, in 1912 and 3.5 times a day - and a small model (of ours) learns: why?\n"
WORDS = st.sampled_from([*PROSE.split(" "), "12", "+1", "DE", "Mr.", "Dear ", "born on ", "a@", "[", "(", "模型", "é"])
PIECES = st.one_of(st.sampled_from([labelled.text for labelled in LABELLED]), WORDS, st.text(max_size=8))
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from([" ", "\n", ". ", ", ", ""])), max_size=8).map(
    lambda parts: "".join(piece + gap for piece, gap in parts)
)


def told(text: str, cuts: list[int]) -> list[str]:
    redactor, at, said = PieceRedactor(), 0, []
    for cut in sorted(cuts):
        said.append(redactor.feed(text[at:cut]))
        at = cut
    return [*said, redactor.feed(text[at:], last=True)]


def letter_by_letter(text: str) -> list[str]:
    return told(text, list(range(1, len(text))))


@settings(max_examples=150)
@given(TEXTS, st.data())
def test_random_cuts_change_nothing(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    assert "".join(told(text, cuts)) == redact(text).text


@pytest.mark.parametrize("labelled", LABELLED, ids=lambda labelled: labelled.text[:30])
def test_letter_by_letter_nothing_of_a_finding_is_told(labelled) -> None:
    text = f"{PROSE}{labelled.text} {PROSE}"
    assert "".join(letter_by_letter(text)) == redact(text).text


@given(st.text())
def test_text_without_personal_data_comes_out_as_it_went_in(text: str) -> None:
    if not find_personal_data(text):
        assert "".join(letter_by_letter(text)) == text


def test_plain_words_wait_for_their_end_only() -> None:
    said = letter_by_letter(PROSE * 3)
    behind = [at - len("".join(said[:at])) for at in range(len(PROSE) + 1)]
    assert max(behind) <= SPACED_LETTERS
    assert sorted(behind)[len(behind) // 2] <= 4


def test_a_private_key_is_left_out_however_long_it_is() -> None:
    lines = "MIIEowIBAAKCAQEA\n" * 4000
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{lines}-----END RSA PRIVATE KEY-----"
    text = f"Here: {key} and on."
    assert "".join(told(text, list(range(0, len(text), 7)))) == "Here: [SECRET] and on."
    assert "".join(told(text[:5000], list(range(0, 5000, 7)))) == "Here: [SECRET]"


def test_what_is_held_back_has_a_bound() -> None:
    redactor = PieceRedactor()
    letters = sum(len(redactor.feed("a" * 100)) for _ in range(1000))
    assert letters >= 100_000 - MOST_HELD_LETTERS - 100


def test_only_the_kinds_that_are_asked_for() -> None:
    redactor = PieceRedactor(kinds=("email",))
    assert redactor.feed("anna@example.com, +49 30 901820", last=True) == "[EMAIL], +49 30 901820"
    assert redactor.counts == {"email": 1}
