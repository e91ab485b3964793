"""What is found of personal data in the texts of personal_data.txt; `python -m loadtests.redaction` has figures."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.personal_data import KINDS, count_findings, find_personal_data, redact
from loadtests.redaction import read_labelled, score

LABELLED = read_labelled()


def test_most_of_the_labelled_texts_is_found_and_nearly_nothing_else() -> None:
    total = score(LABELLED)
    assert total.precision >= 0.97, total.wrong
    assert total.recall >= 0.83
    for kind in ("email", "phone", "card", "iban", "ip_address", "national_id", "secret", "birth_date", "name"):
        assert kind in KINDS
        assert total.recall_of(kind) >= 0.6, kind


def test_what_is_found_is_replaced_by_its_kind_and_the_rest_stays() -> None:
    text = "Mail anna@example.com or call +49 30 901820; card 4111 1111 1111 1111, key sk-abc123def456ghi789jkl."
    redacted = redact(text)
    assert redacted.text == "Mail [EMAIL] or call [PHONE]; card [CARD], key [SECRET]."
    assert redacted.counts == {"email": 1, "phone": 1, "card": 1, "secret": 1}


@pytest.mark.parametrize("labelled", LABELLED, ids=lambda labelled: labelled.text[:30])
def test_a_redacted_text_has_nothing_left_to_find(labelled) -> None:
    once = redact(labelled.text).text
    assert not count_findings(once)
    assert redact(once).text == once


@given(st.text())
def test_findings_lie_in_the_text_in_order_and_apart(text: str) -> None:
    findings = find_personal_data(text)
    assert all(0 <= finding.start < finding.end <= len(text) for finding in findings)
    assert all(one.end <= other.start for one, other in pairwise(findings))


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1 ",
        "a@",
        ":",
        "0.12 ",
        "(1) ",
        "AA11 ",
        "token ",
        "-----BEGIN PRIVATE KEY-----",
        "+1 ",
        "Mr. Aa ",
        "é@é.",
    ],
)
def test_the_time_grows_no_faster_than_the_text(piece: str) -> None:
    def once(text: str) -> float:
        began = time.process_time()
        redact(text)
        return time.process_time() - began

    def seconds(letters: int) -> float:
        text = piece * (letters // len(piece))
        return min(once(text) for _ in range(3))

    seconds(1000)
    short, long = max(seconds(16_000), 0.002), seconds(128_000)
    assert long < 24 * short  # eight times the text; quadratic would be sixty-four
