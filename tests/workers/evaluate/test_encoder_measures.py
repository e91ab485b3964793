"""Measures of encoders against values worked out by hand."""

from math import log2

import numpy as np
import pytest

from workers.evaluate.entities import Span, entity_report, spans_of
from workers.evaluate.labels import calibration, label_report
from workers.evaluate.retrieval import rank, retrieval_scores


def test_accuracy_macro_f1_and_confusion_are_those_counted_by_hand():
    right = ["billing", "billing", "billing", "technical", "technical", "sales"]
    given = ["billing", "billing", "technical", "technical", "billing", "technical"]
    report = label_report(right, given, [0.9] * 6)
    assert report.accuracy == pytest.approx(3 / 6)
    # billing: 2 of 3 given are right, 2 of 3 found; technical: 1 of 3, 1 of 2; sales: never given
    billing, technical, sales = 2 / 3, 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2), 0.0
    assert report.macro_f1 == pytest.approx((billing + technical + sales) / 3)
    assert report.per_label["technical"] == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4, "rows": 2})
    assert report.confusion["billing"] == {"billing": 2, "sales": 0, "technical": 1}
    assert report.confusion["sales"] == {"billing": 0, "sales": 0, "technical": 1}


def test_calibration_error_weighs_each_bins_gap_by_its_rows():
    # from 0.6: two rows of mean 0.65, one right; from 0.9: two rows of mean 0.96, both right
    error, bins = calibration([True, False, True, True], [0.62, 0.68, 0.92, 1.0])
    assert error == pytest.approx(2 / 4 * abs(0.5 - 0.65) + 2 / 4 * abs(1.0 - 0.96))
    assert bins == (
        pytest.approx({"rows": 2, "confidence": 0.65, "accuracy": 0.5}),
        pytest.approx({"rows": 2, "confidence": 0.96, "accuracy": 1.0}),
    )


def test_spans_have_their_places_in_the_joined_text():
    tokens = ["Amina", "Diallo", "met", "Ben", "Ode", "in", "Rome"]
    tags = ["B-PER", "I-PER", "O", "B-PER", "B-PER", "O", "I-LOC"]
    spans = spans_of(tokens, tags)
    text = " ".join(tokens)
    assert [(text[span.start : span.end], span.label) for span in spans] == [
        ("Amina Diallo", "PER"),
        ("Ben", "PER"),
        ("Ode", "PER"),
        ("Rome", "LOC"),
    ]


def test_only_whole_spans_with_their_label_count():
    right = [[Span("PER", 0, 12), Span("LOC", 16, 20)], [Span("ORG", 0, 5)], []]
    given = [[Span("PER", 0, 5), Span("LOC", 16, 20)], [Span("ORG", 0, 5)], [Span("PER", 3, 4)]]
    report = entity_report(right, given)
    precision, recall = 2 / 4, 2 / 3
    assert report.precision == pytest.approx(precision)
    assert report.recall == pytest.approx(recall)
    assert report.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert report.per_label["ORG"] == pytest.approx({"precision": 1, "recall": 1, "f1": 1, "rows": 1})
    assert report.per_label["PER"]["f1"] == 0


def test_without_any_entity_nothing_is_found():
    assert entity_report([[]], [[]]).f1 == 0


def test_ranks_of_the_right_passage_become_ndcg_mrr_and_recall():
    similarity = np.zeros((3, 12))
    similarity[:, :] = np.linspace(0.9, 0.1, 12)  # passage 0 comes first, passage 11 last
    found = retrieval_scores(similarity, [0, 2, 11])
    assert found["mrr_at_10"] == pytest.approx([1, 1 / 3, 0])
    assert found["ndcg_at_10"] == pytest.approx([1, 1 / log2(4), 0])
    assert found["recall_at_1"] == [1, 0, 0]
    assert found["recall_at_5"] == [1, 1, 0]
    assert found["recall_at_10"] == [1, 1, 0]


def test_similarity_is_of_directions_and_not_of_lengths():
    assert rank([[3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]]) == pytest.approx(
        np.array([[1.0, np.sqrt(0.5)], [0.0, 0.0]])
    )
