"""The state machine: what is next for a release, by what is known of it. Pure, so that tests can try everything.

built → evaluated → shadow → canary (stage by stage) → promoted, and from anywhere to rolled_back.
"""

import math
from dataclasses import dataclass

from contracts.releases import FIRST_LOOK_AT, Evaluation, Evidence, Move, Release, Stage
from releases.gates import Sight, judge_evaluation, judge_traffic

LOOK_AGAIN_AT = 1.25
"""After the first look at a stage's figures, the next ones come after so many times as many requests."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The evaluation has not ended. `begun` is False where it is yet to be started."""

    begun: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """The evaluation ended without a result."""

    reason: str


Outcome = Pending | Broken | Evaluation


@dataclass(frozen=True, slots=True)
class Begin:
    """The evaluation is to be started."""


@dataclass(frozen=True, slots=True)
class Look:
    """The figures were judged and nothing follows yet."""

    evidence: Evidence
    next_look_at: int


Step = Move | Look | Begin | None


def after_built(release: Release, outcome: Outcome, now: float) -> Step:
    policy = release.policy.evaluation
    if policy is None:
        return Move(state="evaluated", reason="The policy asks for no evaluation.")
    if isinstance(outcome, Broken):
        return _back(outcome.reason)
    if isinstance(outcome, Evaluation):
        evidence = judge_evaluation(policy, outcome)
        if evidence.passed:
            return Move(state="evaluated", reason="Every gate of the evaluation passed.", evidence=evidence)
        return _back(_what_did_not_pass(evidence), evidence)
    if now - release.entered_at >= policy.timeout_s:
        return _back(f"The evaluation did not end within {policy.timeout_s:g} s.")
    return None if outcome.begun else Begin()


def after_evaluated(release: Release, now: float, *, served: bool) -> Step:
    """`served`: an engine serves the candidate."""
    if served:
        first = "shadow" if release.policy.shadow is not None else "canary"
        return Move(state=first, reason="Engines serve the candidate.")
    if now - release.entered_at >= release.policy.readiness_timeout_s:
        return _back(f"No engine served the candidate within {release.policy.readiness_timeout_s:g} s.")
    return None


def after_traffic(release: Release, sight: Sight, now: float) -> Step:
    """What follows in the shadow and in the canary, whose stages are judged alike."""
    stage = release.current_stage
    assert stage is not None
    requests, age_s = sight.figures["candidate"].requests, now - release.entered_at
    evidence, looked = release.evidence, False
    if requests >= release.next_look_at or (age_s >= stage.timeout_s and requests > 0):
        evidence, looked = _judge(release, sight), True
    if evidence is not None:
        if evidence.failed:
            return _back(_what_did_not_pass(evidence), evidence)
        if evidence.passed and _long_enough(stage, evidence, age_s):
            return _onward(release, evidence)
    if age_s >= stage.timeout_s:
        return _back(f"The candidate did not pass within {stage.timeout_s:g} s. {_missing(stage, evidence)}", evidence)
    if evidence is not None and looked:
        return Look(evidence, max(FIRST_LOOK_AT, math.ceil(LOOK_AGAIN_AT * requests)))
    return None


def _judge(release: Release, sight: Sight) -> Evidence:
    policy = release.policy
    shadow = release.state == "shadow"
    return judge_traffic(policy.live, sight, look=release.looks, confidence=policy.confidence, shadow=shadow)


def _long_enough(stage: Stage, evidence: Evidence, age_s: float) -> bool:
    assert evidence.candidate is not None
    return evidence.candidate.requests >= stage.min_requests and age_s >= stage.min_duration_s


def _onward(release: Release, evidence: Evidence) -> Move:
    reason = "Every gate passed."
    if release.state == "shadow":
        return Move(state="canary", reason=reason, evidence=evidence)
    if release.stage + 1 < len(release.policy.canary):
        return Move(state="canary", stage=release.stage + 1, reason=reason, evidence=evidence)
    return Move(state="promoted", reason=f"{reason} It was the last stage.", evidence=evidence)


def _back(reason: str, evidence: Evidence | None = None) -> Move:
    return Move(state="rolled_back", reason=reason, evidence=evidence)


def _what_did_not_pass(evidence: Evidence) -> str:
    failed = evidence.failed or tuple(gate for gate in evidence.gates if gate.verdict != "pass" and gate.required)
    said = {"fail": "failed", "unsure": "was not shown"}
    return "; ".join(f"{gate.rule}: {said[gate.verdict]}" for gate in failed) + "."


def _missing(stage: Stage, evidence: Evidence | None) -> str:
    if evidence is None:
        return "It answered no requests."
    if not evidence.passed:
        return _what_did_not_pass(evidence)
    assert evidence.candidate is not None
    return f"It answered {evidence.candidate.requests} of at least {stage.min_requests} requests."
