"""Grades a row by an eval's criteria."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.eval_criteria import Criterion, Judged, TextSimilarityCriterion
from contracts.evals import ItemResult
from workers.evaluate.asking import Models
from workers.evaluate.judging import Row, judge
from workers.evaluate.similarity import Similarity, by_shared_parts
from workers.graders import fill, score_by

Grade = Callable[[Row], ItemResult]
Encoder = Callable[[str], Path]
"""The folder of an encoder's weights, by its name."""


def graders_of(criteria: Sequence[Criterion], models: Models, *, embedding_model: str, encoder: Encoder) -> list[Grade]:
    """One for each criterion; they may be called from several threads. Raises JobFailed for what cannot be used."""
    return [
        _grader(criterion, models, embedding_model, encoder, param=f"testing_criteria.{position}")
        for position, criterion in enumerate(criteria)
    ]


def _grader(criterion: Criterion, models: Models, embedding_model: str, encoder: Encoder, *, param: str) -> Grade:
    if isinstance(criterion, Judged):
        return lambda row: judge(criterion, row, models, param=param)
    if isinstance(criterion, TextSimilarityCriterion):
        return _similar(criterion, _similarity(criterion, models, embedding_model, encoder), param)
    score = score_by(criterion, param=param)

    def by_rule(row: Row) -> ItemResult:
        # A row that brings no answer of its own is graded by what the templates name.
        value = score(str((row.get("sample") or {}).get("output_text", "")), row["item"])
        return ItemResult(name=criterion.name, type=criterion.type, score=value, passed=value == 1)

    return by_rule


def _similar(criterion: TextSimilarityCriterion, similarity: Similarity, param: str) -> Grade:
    def grade(row: Row) -> ItemResult:
        answer, reference = (fill(text, row, param=param) for text in (criterion.input, criterion.reference))
        score = similarity(answer, reference)
        passed = score >= criterion.pass_threshold
        return ItemResult(name=criterion.name, type=criterion.type, score=score, passed=passed)

    return grade


def _similarity(
    criterion: TextSimilarityCriterion, models: Models, embedding_model: str, encoder: Encoder
) -> Similarity:
    model = criterion.model or embedding_model
    match criterion.evaluation_metric:
        case "cosine":
            return lambda answer, reference: _cosine(models.embed(model, [answer or " ", reference or " "]))
        case "bert_score":
            from workers.evaluate.bert_score import BertScore  # imports torch

            return BertScore(encoder(model)).f1
        case metric:
            return by_shared_parts(metric)


def _cosine(vectors: Sequence[Sequence[float]]) -> float:
    """Between 0 and 1: texts that point away from each other are not alike."""
    one, other = np.asarray(vectors)
    lengths: Any = np.linalg.norm(one) * np.linalg.norm(other)
    return max(0.0, float(one @ other / lengths)) if lengths else 0.0
