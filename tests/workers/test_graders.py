from typing import Any

import pytest
from pydantic import TypeAdapter

from contracts.graders import Grader
from workers.graders import score_by
from workers.run import JobFailed

ANSWER = "{{ sample.output_text }}"
ITEM = {"answer": "Paris", "facts": {"year": 1889}}


def score(answer: str, item: dict[str, Any] = ITEM, **grader: Any) -> float:
    return score_by(
        TypeAdapter(Grader).validate_python({"name": "test", **grader}), param="method.reinforcement.grader"
    )(answer, item)


@pytest.mark.parametrize(
    ("operation", "answer", "expected"),
    [("eq", "Paris", 1), ("eq", "paris", 0), ("ne", "Rome", 1), ("like", "In Paris.", 1), ("ilike", "in paris", 1)],
)
def test_string_check(operation: str, answer: str, expected: float) -> None:
    grader = {"type": "string_check", "input": ANSWER, "reference": "{{item.answer}}", "operation": operation}
    assert score(answer, **grader) == expected


def test_text_similarity_grows_with_likeness() -> None:
    grader = {"type": "text_similarity", "input": ANSWER, "reference": "{{ item.answer }}"}
    scores = [score(answer, **grader, evaluation_metric="fuzzy_match") for answer in ("Oslo", "Pari", "Paris")]
    assert 0 <= scores[0] < scores[1] < scores[2] == 1


def test_templates_reach_into_rows_and_name_what_is_missing() -> None:
    grader = {"type": "string_check", "input": ANSWER, "operation": "eq"}
    assert score("1889!", **grader, reference="{{ item.facts.year }}!") == 1
    with pytest.raises(JobFailed, match=r"item\.facts\.month"):
        score("1889", **grader, reference="{{ item.facts.month }}")


def test_an_answer_cannot_bring_placeholders_of_its_own() -> None:
    grader = {"type": "string_check", "input": ANSWER, "reference": "{{ item.answer }}", "operation": "eq"}
    assert score("{{ item.answer }}", **grader) == 0


@pytest.mark.parametrize(("words", "expected"), [(0, 0), (2, 0.5), (4, 1), (8, 1), (16, 0.5)])
def test_length(words: int, expected: float) -> None:
    assert score("word " * words, type="length", minimum=4, maximum=8) == expected


def test_regex() -> None:
    assert score("Yes, AYE.", type="regex", pattern=r"(?i)\baye\b") == 1
    assert score("No", type="regex", pattern=r"(?i)\baye\b") == 0


@pytest.mark.timeout(10)
def test_a_regex_that_never_ends_fails_the_job_instead() -> None:
    with pytest.raises(JobFailed, match="takes more than"):
        score("a" * 40 + "!", type="regex", pattern=r"^(a|aa)+$")


@pytest.mark.parametrize(
    ("answer", "expected"), [('{"a": 1}', 1), ('{"a": "b"}', 0.5), ("no JSON", 0), ("[" * 100_000, 0)]
)
def test_json_schema(answer: str, expected: float) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert score(answer, type="json_schema", schema=schema) == expected


@pytest.mark.parametrize(
    "grader", [{"type": "regex", "pattern": "("}, {"type": "json_schema", "schema": {"type": "thing"}}]
)
def test_what_cannot_be_used_is_a_failure_with_words(grader: dict[str, Any]) -> None:
    with pytest.raises(JobFailed, match="cannot be used") as failure:
        score("a", **grader)
    assert failure.value.code == "invalid_grader"
