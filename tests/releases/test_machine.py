"""The state machine: where a release may go, and on what."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.releases import FIRST_LOOK_AT, ArmFigures, Move, Policy, Release, bucket_of
from releases.machine import Begin, Broken, Look, Pending, after_built, after_evaluated, after_traffic
from tests.releases.samples import evaluation, policy, release, sight

GOOD = ArmFigures(requests=400, errors=0)
BAD = ArmFigures(requests=400, errors=300)
EVALUATED = policy(evaluation={"log_likelihood": {"min_difference": -0.02}, "timeout_s": 50})


def test_without_an_evaluation_in_the_policy_none_is_waited_for():
    step = after_built(release(), Pending(begun=False), now=1)
    assert isinstance(step, Move)
    assert step.state == "evaluated"


def test_an_evaluation_is_begun_waited_for_and_given_up():
    built = release(policy=EVALUATED)
    assert after_built(built, Pending(begun=False), now=1) == Begin()
    assert after_built(built, Pending(begun=True), now=49) is None
    assert after_built(built, Pending(begun=True), now=50).state == "rolled_back"
    assert after_built(built, Broken("The evaluation failed."), now=1).state == "rolled_back"


@pytest.mark.parametrize(
    ("low", "high", "state", "verdict"),
    [
        (-0.02, 0.1, "evaluated", "pass"),
        (-0.03, 0.1, "rolled_back", "unsure"),
        (-0.9, -0.03, "rolled_back", "fail"),
    ],
)
def test_an_evaluation_is_judged_by_its_interval(low: float, high: float, state: str, verdict: str):
    step = after_built(release(policy=EVALUATED), evaluation(low, high), now=1)
    assert (step.state, step.evidence.gates[0].verdict) == (state, verdict)
    assert step.evidence.gates[0].low == low


def test_a_candidate_gets_no_traffic_before_an_engine_serves_it():
    evaluated = release(state="evaluated")
    assert after_evaluated(evaluated, now=599, served=False) is None
    assert after_evaluated(evaluated, now=600, served=False).state == "rolled_back"
    assert after_evaluated(evaluated, now=1, served=True).state == "shadow"
    assert after_evaluated(release(state="evaluated", policy=policy(shadow=None)), now=1, served=True).state == "canary"


def test_a_good_candidate_goes_from_stage_to_stage():
    now = release(state="shadow")
    path = []
    while now.state not in ("promoted", "rolled_back"):
        step = after_traffic(now, sight(GOOD, GOOD), now=5)
        assert isinstance(step, Move)
        path.append((step.state, step.stage))
        now = now.model_copy(update={"state": step.state, "stage": step.stage})
    assert path == [("canary", 0), ("canary", 1), ("canary", 2), ("promoted", 0)]


@pytest.mark.parametrize(("state", "stage"), [("shadow", 0), ("canary", 0), ("canary", 2)])
def test_a_bad_candidate_is_rolled_back_from_anywhere_long_before_the_stage_is_over(state: str, stage: int):
    few = ArmFigures(requests=FIRST_LOOK_AT, errors=15)
    step = after_traffic(release(state=state, stage=stage), sight(GOOD, few), now=1)
    assert isinstance(step, Move)
    assert step.state == "rolled_back"
    assert "error rate" in step.reason
    assert step.evidence.gates[0].verdict == "fail"


def test_fewer_requests_than_a_first_look_needs_decide_nothing():
    few = ArmFigures(requests=FIRST_LOOK_AT - 1, errors=FIRST_LOOK_AT - 1)
    assert after_traffic(release(state="canary"), sight(GOOD, few), now=1) is None


def test_a_look_that_is_unsure_is_written_down_and_the_next_one_waits_for_a_quarter_more():
    unsure = ArmFigures(requests=40, errors=6)
    step = after_traffic(release(state="canary"), sight(GOOD, unsure), now=1)
    assert isinstance(step, Look)
    assert step.next_look_at == 50
    again = release(state="canary", looks=1, next_look_at=50, evidence=step.evidence)
    assert after_traffic(again, sight(GOOD, ArmFigures(requests=49, errors=49)), now=2) is None


def test_a_stage_lasts_as_long_as_it_must_whatever_its_gates_say():
    stages = [{"share": 0.5, "min_requests": 300, "min_duration_s": 60, "timeout_s": 100}]
    canary = release(state="canary", policy=policy(canary=stages))
    assert isinstance(after_traffic(canary, sight(GOOD, ArmFigures(requests=299)), now=70), Look)
    look = after_traffic(canary, sight(GOOD, GOOD), now=59)
    assert isinstance(look, Look)
    looked = canary.model_copy(update={"evidence": look.evidence, "looks": 1, "next_look_at": look.next_look_at})
    assert after_traffic(looked, sight(GOOD, GOOD), now=60).state == "promoted"


@pytest.mark.parametrize("candidate", [ArmFigures(), ArmFigures(requests=5), ArmFigures(requests=60, errors=9)])
def test_a_candidate_that_does_not_pass_in_time_is_rolled_back(candidate: ArmFigures):
    canary = release(state="canary")
    assert not isinstance(after_traffic(canary, sight(GOOD, candidate), now=99), Move)
    step = after_traffic(canary, sight(GOOD, candidate), now=100)
    assert step.state == "rolled_back"
    assert "within 100 s" in step.reason


def test_feedback_is_a_veto_that_need_not_come_unless_required():
    for required, state in ((False, "promoted"), (True, None)):
        live = {"error_rate": {"max_increase": 0.2}, "feedback": {"max_decrease": 0.2, "required": required}}
        canary = release(state="canary", stage=2, policy=policy(live=live))
        step = after_traffic(canary, sight(GOOD, GOOD), now=5)
        assert (step.state if isinstance(step, Move) else None) == state
        disliked = sight(GOOD, GOOD, stable=(90, 10), candidate=(10, 90))
        assert after_traffic(canary, disliked, now=5).state == "rolled_back"
        liked = sight(GOOD, GOOD, stable=(90, 10), candidate=(95, 5))
        assert after_traffic(canary, liked, now=5).state == "promoted"


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_slow_candidate_fails_by_its_medians(factor: float):
    live = {"error_rate": {"max_increase": 0.2}, "time_to_first_token": {"max_ratio": 1.5}}
    random.seed(1)

    def figures(scale: float) -> ArmFigures:
        buckets = [bucket_of(scale * random.lognormvariate(-2, 0.4)) for _ in range(200)]
        return ArmFigures(requests=200, time_to_first_token={bucket: buckets.count(bucket) for bucket in buckets})

    canary = release(state="canary", stage=2, policy=policy(live=live))
    step = after_traffic(canary, sight(figures(1), figures(factor)), now=5)
    assert step.state == ("promoted" if factor == 1.0 else "rolled_back")


def test_a_slow_pace_fails_too_but_not_in_the_shadow_where_it_is_not_measured():
    live = {"error_rate": {"max_increase": 0.2}, "tokens_per_second": {"min_ratio": 0.8}}
    fast, slow = (
        ArmFigures(requests=200, tokens_per_second={80: 200}),
        ArmFigures(requests=200, tokens_per_second={60: 200}),
    )
    assert after_traffic(release(state="canary", policy=policy(live=live)), sight(fast, slow), 5).state == "rolled_back"
    shadowed = after_traffic(release(state="shadow", policy=policy(live=live)), sight(fast, slow), 5)
    assert shadowed.state == "canary"


figures = st.integers(0, 2000).flatmap(
    lambda requests: st.integers(0, requests).map(lambda errors: ArmFigures(requests=requests, errors=errors))
)
stages = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4, unique=True).map(
    lambda shares: [{"share": share, "min_requests": 50, "min_duration_s": 10} for share in sorted(shares)]
)


@given(st.data(), stages, st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_comes_a_release_only_goes_on_step_by_step_or_back(data: st.DataObject, canary: list, shadow: bool):
    rules = Policy.model_validate({"canary": canary, "shadow": {"share": 0.1} if shadow else None})
    now: Release = release(policy=rules)
    order = ["built", "evaluated", *(["shadow"] if shadow else [])]
    order += [f"canary-{stage}" for stage in range(len(canary))] + ["promoted"]
    clock = 0.0
    for _ in range(30):
        clock += data.draw(st.floats(0, 50_000))
        if now.state == "built":
            step = after_built(now, Pending(begun=False), clock)
        elif now.state == "evaluated":
            step = after_evaluated(now, clock, served=data.draw(st.booleans()))
        elif now.state in ("shadow", "canary"):
            step = after_traffic(now, sight(data.draw(figures), data.draw(figures)), clock)
        else:
            break
        if isinstance(step, Look):
            assert step.next_look_at > step.evidence.candidate.requests
            update = {"looks": now.looks + 1, "next_look_at": step.next_look_at, "evidence": step.evidence}
            now = now.model_copy(update=update)
        if not isinstance(step, Move):
            continue
        after = now.model_copy(update={"state": step.state, "stage": step.stage})
        if step.state != "rolled_back":
            assert order.index(after.stage_name) == order.index(now.stage_name) + 1
            if now.state in ("shadow", "canary"):
                assert step.evidence.passed
                assert not step.evidence.failed
                assert step.evidence.candidate.requests >= now.current_stage.min_requests
                assert clock - now.entered_at >= now.current_stage.min_duration_s
        now = after.model_copy(
            update={"entered_at": clock, "looks": 0, "next_look_at": FIRST_LOOK_AT, "evidence": None}
        )


@pytest.mark.parametrize(("candidate_rate", "most_rolled_back"), [(0.05, 0.05), (0.07, 0.05)])
def test_a_candidate_as_good_as_allowed_is_seldom_rolled_back_however_often_it_is_looked_at(
    candidate_rate: float, most_rolled_back: float
):
    """The errors of all looks of a stage together: with a margin of 0.02, of these at most one in twenty fails."""
    random.seed(7)
    rounds, rolled_back = 200, 0
    stage = [{"share": 0.5, "min_requests": 10_000, "min_duration_s": 0}]
    rules = policy(canary=stage, live={"error_rate": {"max_increase": 0.02}})
    for _ in range(rounds):
        now = release(state="canary", policy=rules)
        stable = candidate = 0
        for requests in range(1, 1500):
            stable += random.random() < 0.05
            candidate += random.random() < candidate_rate
            if requests < now.next_look_at:
                continue
            arms = (ArmFigures(requests=requests, errors=stable), ArmFigures(requests=requests, errors=candidate))
            step = after_traffic(now, sight(*arms), now=1)
            if isinstance(step, Move):
                rolled_back += 1
                break
            update = {"looks": now.looks + 1, "next_look_at": step.next_look_at, "evidence": step.evidence}
            now = now.model_copy(update=update)
    assert rolled_back / rounds <= most_rolled_back
