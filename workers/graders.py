"""Scores answers by rules (contracts/graders.py): no model is asked, and nothing here imports torch."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
import regex
from rapidfuzz import fuzz
from referencing import Registry

from contracts.eval_items import PLACEHOLDER
from contracts.graders import (
    JsonSchemaGrader,
    LengthGrader,
    RegexGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from workers.run import JobFailed

Score = Callable[[str, dict[str, Any]], float]
"""Of an answer and the row that it answers; between 0 and 1."""

AnsweredByRules = StringCheckGrader | TextSimilarityGrader | LengthGrader | RegexGrader | JsonSchemaGrader
REGEX_TIMEOUT_S = 0.5


def score_by(grader: AnsweredByRules, *, param: str) -> Score:
    """`param` is where the grader stands in the request. Raises JobFailed for a pattern or schema that is none; so does
    the score, for a row without a field that the grader names.
    """
    match grader:
        case StringCheckGrader():
            return lambda answer, item: _checks(grader, answer, item, param)
        case TextSimilarityGrader():
            return lambda answer, item: fuzz.ratio(*_both(grader, answer, item, param)) / 100
        case LengthGrader():
            return lambda answer, _: _fits(len(answer.split()), grader.minimum, grader.maximum)
        case RegexGrader():
            return _regex(grader, param)
        case JsonSchemaGrader():
            return _schema(grader, param)


def fill(template: str, row: Mapping[str, Any], *, param: str) -> str:
    """Puts what the placeholders name in their places. Raises JobFailed where the row has no such field."""

    def value(found: re.Match[str]) -> str:
        source, path = found.groups()
        values: Any = row
        for name in (source, *path.split(".")):
            if not isinstance(values, Mapping) or name not in values:
                message = f"The grader names `{source}.{path}`, which a row does not have."
                raise JobFailed("invalid_grader", message, param=param)
            values = values[name]
        return values if isinstance(values, str) else json.dumps(values)

    return PLACEHOLDER.sub(value, template)


def _checks(grader: StringCheckGrader, answer: str, item: dict[str, Any], param: str) -> float:
    found, reference = _both(grader, answer, item, param)
    match grader.operation:
        case "eq":
            return float(found == reference)
        case "ne":
            return float(found != reference)
        case "like":
            return float(reference in found)
        case "ilike":
            return float(reference.lower() in found.lower())


def _both(
    grader: StringCheckGrader | TextSimilarityGrader, answer: str, item: dict[str, Any], param: str
) -> tuple[str, str]:
    row = {"sample": {"output_text": answer}, "item": item}
    return fill(grader.input, row, param=param), fill(grader.reference, row, param=param)


def _fits(words: int, minimum: int, maximum: int) -> float:
    if words < minimum:
        return words / minimum
    return 1.0 if words <= maximum else maximum / words


def _regex(grader: RegexGrader, param: str) -> Score:
    try:
        pattern = regex.compile(grader.pattern)
    except regex.error as error:
        raise _invalid(f"{param}.pattern", f"it is no regular expression: {error}") from None

    def score(answer: str, _: dict[str, Any]) -> float:
        try:
            return float(pattern.search(answer, timeout=REGEX_TIMEOUT_S) is not None)
        except TimeoutError:
            raise _invalid(f"{param}.pattern", f"it takes more than {REGEX_TIMEOUT_S} s for one answer") from None

    return score


def _schema(grader: JsonSchemaGrader, param: str) -> Score:
    validator_type = jsonschema.validators.validator_for(grader.json_schema)
    try:
        validator_type.check_schema(grader.json_schema)
    except jsonschema.SchemaError as error:
        raise _invalid(f"{param}.schema", error.message) from None
    validator = validator_type(grader.json_schema, registry=Registry())  # an empty registry fetches nothing

    def score(answer: str, _: dict[str, Any]) -> float:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if validator.is_valid(value) else 0.5

    return score


def _invalid(param: str, reason: str) -> JobFailed:
    field = param.rpartition(".")[2]
    return JobFailed("invalid_grader", f"The grader's `{field}` cannot be used: {reason}.", param=param)
