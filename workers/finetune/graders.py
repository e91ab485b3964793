"""Scores answers as a job's grader says (contracts/graders.py). Knows no torch; a reward model is reward_model.py's."""

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import regex
from rapidfuzz import fuzz
from referencing import Registry

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
PLACEHOLDER = re.compile(r"\{\{\s*(item|sample)\.([A-Za-z0-9_.]+)\s*\}\}")
REGEX_TIMEOUT_S = 0.5


def score_by(grader: AnsweredByRules) -> Score:
    """Raises JobFailed for a pattern or schema that is none."""
    match grader:
        case StringCheckGrader():
            return lambda answer, item: _checks(grader, answer, item)
        case TextSimilarityGrader():
            return lambda answer, item: (
                fuzz.ratio(fill(grader.input, answer, item), fill(grader.reference, answer, item)) / 100
            )
        case LengthGrader():
            return lambda answer, _: _fits(len(answer.split()), grader.minimum, grader.maximum)
        case RegexGrader():
            return _regex(grader)
        case JsonSchemaGrader():
            return _schema(grader)


def fill(template: str, answer: str, item: dict[str, Any]) -> str:
    """Puts what the placeholders name in their places. Raises JobFailed where the row has no such field."""

    def value(found: re.Match[str]) -> str:
        source, path = found.groups()
        values: Any = {"output_text": answer} if source == "sample" else item
        for name in path.split("."):
            if not isinstance(values, dict) or name not in values:
                message = f"The grader names `{source}.{path}`, which a row of the training file does not have."
                raise JobFailed("invalid_grader", message, param="method.reinforcement.grader")
            values = values[name]
        return values if isinstance(values, str) else json.dumps(values)

    return PLACEHOLDER.sub(value, template)


def _checks(grader: StringCheckGrader, answer: str, item: dict[str, Any]) -> float:
    found, reference = fill(grader.input, answer, item), fill(grader.reference, answer, item)
    match grader.operation:
        case "eq":
            return float(found == reference)
        case "ne":
            return float(found != reference)
        case "like":
            return float(reference in found)
        case "ilike":
            return float(reference.lower() in found.lower())


def _fits(words: int, minimum: int, maximum: int) -> float:
    if words < minimum:
        return words / minimum
    return 1.0 if words <= maximum else maximum / words


def _regex(grader: RegexGrader) -> Score:
    try:
        pattern = regex.compile(grader.pattern)
    except regex.error as error:
        raise _invalid("pattern", f"it is no regular expression: {error}") from None

    def score(answer: str, _: dict[str, Any]) -> float:
        try:
            return float(pattern.search(answer, timeout=REGEX_TIMEOUT_S) is not None)
        except TimeoutError:
            raise _invalid("pattern", f"it takes more than {REGEX_TIMEOUT_S} s for one answer") from None

    return score


def _schema(grader: JsonSchemaGrader) -> Score:
    validator_type = jsonschema.validators.validator_for(grader.json_schema)
    try:
        validator_type.check_schema(grader.json_schema)
    except jsonschema.SchemaError as error:
        raise _invalid("schema", error.message) from None
    validator = validator_type(grader.json_schema, registry=Registry())  # an empty registry fetches nothing

    def score(answer: str, _: dict[str, Any]) -> float:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if validator.is_valid(value) else 0.5

    return score


def _invalid(field: str, reason: str) -> JobFailed:
    message = f"The grader's `{field}` cannot be used: {reason}."
    return JobFailed("invalid_grader", message, param=f"method.reinforcement.grader.{field}")
