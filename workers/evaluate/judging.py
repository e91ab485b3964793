"""Models as judges. Each answers in JSON of a schema, so that what it says can be read.

Judges are asked at temperature 0, and their answers may come from the cache: the same question has the same verdict.
Positions are swapped because models prefer what stands first (Zheng et al., "Judging LLM-as-a-Judge", 2023).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.eval_criteria import (
    ComparisonCriterion,
    Judged,
    LabelModelCriterion,
    Message,
    RubricCriterion,
    ScoreModelCriterion,
)
from contracts.evals import ItemResult
from workers.evaluate.asking import Models, NoAnswer
from workers.graders import fill

VERDICT_TOKENS = 256
LABELS_TEXT = "Answer with one of these labels: {labels}."
SCORE_TEXT = "Answer with a number from {low:g} to {high:g}."
POINT_TEXT = "Question about the answer above: {question} Answer with yes or no."
COMPARISON_TEXT = (
    "{question}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nWhich answer is better? Answer with A or B."
)

Row = Mapping[str, Any]
"""`item`, and `sample` with the model's answer."""


def judge(criterion: Judged, row: Row, models: Models, *, param: str) -> ItemResult:
    """`param` is where the criterion stands in the eval. Raises what `Models` raises, and JobFailed where the row lacks
    something.
    """
    match criterion:
        case LabelModelCriterion():
            return _label(criterion, row, models, param)
        case ScoreModelCriterion():
            return _score(criterion, row, models, param)
        case RubricCriterion():
            return _rubric(criterion, row, models, param)
        case ComparisonCriterion():
            return _compare(criterion, row, models, param)


def _label(criterion: LabelModelCriterion, row: Row, models: Models, param: str) -> ItemResult:
    """The score is the share of the orders in which the label passes."""
    orders = [criterion.labels]
    if criterion.position_swap:
        orders.append(criterion.labels[::-1])
    asked = _filled(criterion.input, row, param)
    chosen = [_choose(models, criterion.model, asked, LABELS_TEXT, labels) for labels in orders]
    passing = [label in criterion.passing_labels for label in chosen]
    said: dict[str, Any] = {"label": chosen[0], "labels": chosen}
    if criterion.reference is not None:
        said["reference"] = fill(criterion.reference, row, param=param)
    return _result(criterion, sum(passing) / len(passing), all(passing), said)


def _score(criterion: ScoreModelCriterion, row: Row, models: Models, param: str) -> ItemResult:
    low, high = criterion.range
    schema = {"score": {"type": "number", "minimum": low, "maximum": high}}
    asked = [*_filled(criterion.input, row, param), _user(SCORE_TEXT.format(low=low, high=high))]
    sampling = criterion.sampling_params
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_tokens": sampling.max_completions_tokens,
    }
    said = _ask(models, criterion.model, asked, schema, **{k: v for k, v in parameters.items() if v is not None})
    if not isinstance(said["score"], int | float):
        raise NoAnswer("invalid_verdict", f"`{criterion.model}` gave no number.")
    score = min(max(float(said["score"]), low), high)
    return _result(criterion, score, score >= criterion.passes_from, said)


def _rubric(criterion: RubricCriterion, row: Row, models: Models, param: str) -> ItemResult:
    asked = _filled(criterion.input, row, param)
    met: dict[str, bool] = {}
    for point in criterion.points:
        question = POINT_TEXT.format(question=fill(point.question, row, param=param))
        said = _ask(models, criterion.model, [*asked, _user(question)], {"answer": {"enum": ["yes", "no"]}})
        met[point.name] = said["answer"] == "yes"
    weight = sum(point.weight for point in criterion.points)
    score = sum(point.weight for point in criterion.points if met[point.name]) / weight
    return _result(criterion, score, score >= criterion.pass_threshold, {"met": met})


def _compare(criterion: ComparisonCriterion, row: Row, models: Models, param: str) -> ItemResult:
    question, answer, reference = (
        fill(template, row, param=param) for template in (criterion.question, criterion.input, criterion.reference)
    )
    wins = []
    for first, second, own in ((answer, reference, "A"), (reference, answer, "B")):
        asked = [_user(COMPARISON_TEXT.format(question=question, first=first, second=second))]
        wins.append(_ask(models, criterion.model, asked, {"better": {"enum": ["A", "B"]}})["better"] == own)
    score = sum(wins) / len(wins)
    labels = ["answer" if won else "reference" for won in wins]
    return _result(criterion, score, score >= criterion.pass_threshold, {"labels": labels})


def _choose(models: Models, model: str, asked: list[dict[str, str]], text: str, labels: Sequence[str]) -> str:
    question = text.format(labels=", ".join(f'"{label}"' for label in labels))
    return str(_ask(models, model, [*asked, _user(question)], {"label": {"enum": list(labels)}})["label"])


def _ask(
    models: Models, model: str, messages: list[dict[str, str]], fields: dict[str, Any], **parameters: Any
) -> dict[str, Any]:
    """The verdict, with a value for each of `fields`. Raises NoAnswer for a judge that does not keep to the schema."""
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    wanted = {"temperature": 0, "seed": 0, "max_tokens": VERDICT_TOKENS} | parameters
    answer = models.chat(
        model,
        messages,
        may_be_kept=True,
        response_format={"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}},
        **wanted,
    )
    try:
        said = json.loads(answer.text)
    except ValueError:
        said = None
    allowed = {name: field.get("enum") for name, field in fields.items()}
    if not isinstance(said, dict) or any(
        name not in said or (choices is not None and said[name] not in choices) for name, choices in allowed.items()
    ):
        raise NoAnswer("invalid_verdict", f"`{model}` did not answer as the criterion asks: {answer.text[:200]}")
    return said


def _filled(messages: Sequence[Message], row: Row, param: str) -> list[dict[str, str]]:
    return [{"role": message.role, "content": fill(message.text, row, param=param)} for message in messages]


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _result(criterion: Judged, score: float, passed: bool, said: dict[str, Any]) -> ItemResult:
    return ItemResult(name=criterion.name, type=criterion.type, score=score, passed=passed, sample=said)
