"""Models as judges, in runs of their own."""

from typing import Any

import pytest

from tests.gateway.conftest import MODEL
from tests.workers.evaluate.conftest import CAPITALS, Evaluations
from workers.evaluate.statistics import agreement, detectable, mean_interval, paired_difference, share_interval

ASKED = [{"role": "user", "content": "{{ item.question }} {{ sample.output_text }}"}]
LABEL = {
    "type": "label_model",
    "name": "tone",
    "model": MODEL,
    "input": ASKED,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}


def statistics(run: Any) -> dict[str, Any]:
    assert run.status == "completed"
    found: dict[str, Any] = run.model_dump()["statistics"][0]
    return found


def test_a_judge_that_prefers_what_stands_first_passes_nothing_and_is_found_out(evaluations: Evaluations):
    evaluations.serving.engine.behaviour(prefers="first")
    run = evaluations.run(evaluations.create(LABEL))
    found = statistics(run)
    assert (found["score"]["mean"], found["pass_rate"]["mean"]) == (0.5, 0)
    assert found["in_either_order"]["share"] == 0
    assert evaluations.items(run)[0].results[0].sample["labels"] == ["good", "bad"]


def test_a_judge_that_knows_passes_in_either_order_and_is_compared_with_people(evaluations: Evaluations):
    evaluations.serving.engine.behaviour(prefers="good")
    rows = [
        {"item": row["item"] | {"answer": label}}
        for row, label in zip(CAPITALS, ("good", "good", "bad", "good"), strict=True)
    ]
    run = evaluations.run(evaluations.create(LABEL | {"reference": "{{ item.answer }}"}), evaluations.sampled(rows))
    found = statistics(run)
    assert (found["score"]["mean"], found["pass_rate"]["mean"]) == (1, 1)
    assert (found["in_either_order"]["share"], found["in_either_order"]["kappa"]) == (1, None)
    assert found["with_reference"] == {"share": 0.75, "kappa": 0, "rows": 4}
    assert found["confusion"] == {"bad": {"bad": 0, "good": 1}, "good": {"bad": 0, "good": 3}}


def test_the_same_verdict_is_not_asked_for_twice(evaluations: Evaluations):
    source = {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [row | {"sample": {"output_text": "x"}} for row in CAPITALS]},
    }
    eval_id = evaluations.create(LABEL)
    evaluations.run(eval_id, source)
    asked = len(evaluations.serving.engine.requests())
    assert asked == 2 * len(CAPITALS)
    evaluations.run(eval_id, source)
    assert len(evaluations.serving.engine.requests()) == asked


def test_scores_are_numbers_within_their_range(evaluations: Evaluations):
    criterion = {"type": "score_model", "name": "points", "model": MODEL, "input": ASKED, "range": [1, 5]}
    run = evaluations.run(evaluations.create(criterion))
    scores = [item.results[0].score for item in evaluations.items(run)]
    assert all(1 <= score <= 5 for score in scores)
    assert len(set(scores)) > 1
    assert [item.results[0].passed for item in evaluations.items(run)] == [score >= 3 for score in scores]


def test_a_rubric_weighs_what_is_met(evaluations: Evaluations):
    points = [
        {"name": "kind", "question": "Is it kind?", "weight": 3},
        {"name": "true", "question": "Is {{ item.answer }} named?"},
    ]
    criterion = {"type": "rubric", "name": "manners", "model": MODEL, "input": ASKED, "points": points}
    run = evaluations.run(evaluations.create(criterion))
    for item in evaluations.items(run):
        met = item.results[0].sample["met"]
        assert item.results[0].score == (3 * met["kind"] + met["true"]) / 4


def test_a_comparison_is_a_tie_where_it_depends_on_the_order(evaluations: Evaluations):
    criterion = {
        "type": "comparison",
        "name": "better",
        "model": MODEL,
        "question": "{{ item.question }}",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
    }
    evaluations.serving.engine.behaviour(prefers="first")
    found = statistics(evaluations.run(evaluations.create(criterion)))
    assert (found["score"]["mean"], found["pass_rate"]["mean"], found["in_either_order"]["share"]) == (0.5, 1, 0)


def test_intervals_by_hand():
    assert mean_interval([1, 1, 1]).low == 1
    wide, narrow = mean_interval([0, 1] * 5), mean_interval([0, 1] * 500)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.1)
    none = share_interval(0, 10)  # Wilson: z² / (n + z²)
    assert (none.low, none.high) == (0, pytest.approx(1.96**2 / (10 + 1.96**2), rel=1e-3))


def test_a_difference_that_chance_makes_is_not_sure_and_a_true_one_is():
    assert paired_difference([0, 1, 0, 1], [0, 1, 0, 1]).p_value == 1
    chance = paired_difference([0, 1, 0, 1, 1, 0], [1, 0, 1, 0, 0, 1])
    assert chance.p_value > 0.5
    true = paired_difference([0.0] * 12, [0.4, 0.6] * 6)
    assert true.p_value < 0.01
    assert true.low > 0
    assert detectable(100, 0.5) == pytest.approx((1.96 + 0.8416) * 0.05, rel=1e-3)


def test_kappa_counts_chance_out():
    found = agreement(["a", "a", "b", "b"], ["a", "b", "b", "b"])  # observed 3/4, by chance 1/2
    assert (found.share, found.kappa) == (0.75, pytest.approx(0.5))
    assert agreement(["a", "a"], ["a", "a"]).kappa is None
