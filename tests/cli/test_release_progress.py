"""What `flywheel release watch` says while nothing moves."""

from typing import Any

import pytest

from cli.release_progress import waits_for

FIGURES = {"stable": {"requests": 30, "errors": 0}, "candidate": {"requests": 3, "errors": 1}}
POLICY = {"shadow": {"min_requests": 9}, "canary": [{"min_requests": 10}, {"min_requests": 20}]}


def release(**fields: Any) -> dict[str, Any]:
    defaults = {"state": "built", "stage": 0, "controlled": True, "figures": None, "evaluation": None}
    return defaults | {"policy": POLICY} | fields


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"controlled": False}, "No controller runs"),
        ({}, "waits for its evaluation to begin"),
        ({"evaluation": {"status": "running", "message": "Answers: 3 of 20."}}, "is running: Answers: 3 of 20."),
        ({"state": "evaluated"}, "until an engine has loaded the candidate"),
        ({"state": "shadow", "figures": FIGURES}, "stable 30 (0 errors), candidate 3 of 9 (1 errors)"),
        ({"state": "canary", "stage": 1, "figures": FIGURES}, "candidate 3 of 20 (1 errors)"),
    ],
)
def test_each_wait_has_its_reason(fields: dict[str, Any], says: str):
    assert says in waits_for(release(**fields))
