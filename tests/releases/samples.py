"""Releases and figures for tests."""

from typing import Any

from contracts.releases import ArmFigures, Evaluation, PairedScore, Policy, Release
from releases.gates import Sight
from store.feedback import Ratings

POLICY = {
    "shadow": {"share": 0.2, "min_requests": 20, "min_duration_s": 0, "timeout_s": 100},
    "canary": [
        {"share": share, "min_requests": 20, "min_duration_s": 0, "timeout_s": 100} for share in (0.01, 0.1, 0.5)
    ],
    "live": {"error_rate": {"max_increase": 0.2}},
}


def policy(**fields: Any) -> Policy:
    return Policy.model_validate(POLICY | fields)


def release(**fields: Any) -> Release:
    defaults: dict[str, Any] = {
        "id": "release-1",
        "alias": "assistant",
        "owner": "acme",
        "tenant": "acme",
        "stable": "old",
        "candidate": "new",
        "policy": policy(),
        "created_at": 0,
        "entered_at": 0.0,
        "next_look_at": 20,
    }
    return Release.model_validate(defaults | fields)


def sight(stable: ArmFigures, candidate: ArmFigures, /, **ratings: tuple[int, int]) -> Sight:
    return Sight(
        {"stable": stable, "candidate": candidate},
        {"stable": Ratings(*ratings.get("stable", (0, 0))), "candidate": Ratings(*ratings.get("candidate", (0, 0)))},
    )


def evaluation(low: float, high: float) -> Evaluation:
    middle = (low + high) / 2
    score = PairedScore(stable=-2.0, candidate=-2.0 + middle, difference=middle, low=low, high=high, rows=50)
    return Evaluation(confidence=0.95, log_likelihood=score, similarity=score)
