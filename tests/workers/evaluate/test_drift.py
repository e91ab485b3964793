"""Drift by hand, and of a model that gets worse: from the schedule to the alert, the history and its picture."""

import random
import time
from typing import Any

import httpx
import pytest

from contracts.eval_schedules import AlertRule, EvalSchedule, NewSchedule, Timing
from contracts.evals import CriterionStatistics, EvalRun, Interval, RunResults, SampledSource
from store.eval_schedules import EvalScheduleRepository
from tests.gateway.conftest import MODEL
from tests.workers.evaluate.conftest import EXACT, Evaluations
from workers.evaluate.control_chart import FEWEST, MOST, chart
from workers.evaluate.drift import direction_of, drift_of
from workers.evaluate.statistics import paired_difference

SAYS_SOMETHING = {"type": "length", "name": "says something", "minimum": 1, "maximum": 100}
HOUR = 3600


def noise(count: int, *, seed: int = 0, mean: float = 0.7) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(mean, 0.02) for _ in range(count)]


def test_a_chart_by_hand():
    """The run moves the average by a fifth; the limits are of 3.5 = 0.04 / (0.0534 · √(0.04 + 0.04 / 8)) and t of 7."""
    found = chart([0.5, 0.6] * 4 + [0.75], rows=100)
    assert found is not None
    assert (found.centre, found.average, found.runs) == (pytest.approx(0.55), pytest.approx(0.59), 8)
    spread = (0.1**2 / 4 * 8 / 7) ** 0.5 * 0.045**0.5
    assert found.high - found.centre == pytest.approx(4.442 * spread, rel=0.001)
    assert found.centre - found.low == pytest.approx(found.high - found.centre)
    assert found.p_value == pytest.approx(0.0096, abs=2e-4)


def test_a_chart_needs_runs_to_learn_from():
    assert chart([0.5] * FEWEST, rows=10) is None
    assert chart([0.5] * (FEWEST + 1), rows=10) is not None


@pytest.mark.parametrize("learnt", [FEWEST, MOST])
def test_a_chart_rarely_alarms_while_nothing_changes(learnt: int):
    found = [chart(noise(learnt + 1, seed=seed), rows=1000) for seed in range(1000)]
    assert sum(not each.low <= each.average <= each.high for each in found if each is not None) <= 10


def test_a_small_change_that_stays_is_seen_though_no_run_shows_it():
    after = noise(15, seed=1, mean=0.66)
    found = chart(noise(MOST) + after, rows=1000)
    assert found is not None
    assert all(abs(mean - found.centre) < 4 * 0.02 for mean in after)
    assert found.average < found.low
    assert found.p_value < 0.003


def test_one_row_that_differs_is_no_drift_of_a_model_that_always_says_the_same():
    found = chart([0.5] * 20 + [0.49], rows=100)
    assert found is not None
    assert found.low < found.average < found.high
    worse = chart([0.5] * 20 + [0.45], rows=100)
    assert worse is not None
    assert worse.average < worse.low


def statistics(name: str, before: list[float], after: list[float]) -> CriterionStatistics:
    interval = Interval(mean=sum(after) / len(after), low=0, high=1, rows=len(after))
    return CriterionStatistics(
        name=name, score=interval, pass_rate=interval, against_baseline=paired_difference(before, after)
    )


def schedule_of(alert: AlertRule, criteria: tuple[str, ...] | None = None) -> EvalSchedule:
    run = of_run()
    assert isinstance(run.data_source, SampledSource)
    wanted = NewSchedule(
        name="s",
        timing=Timing(every_s=HOUR),
        data_source=run.data_source,
        baseline="first",
        criteria=criteria,
        alert=alert,
    )
    rest: dict[str, Any] = dict.fromkeys(("last_run", "skipped_at", "skip_reason", "drift"))
    times = dict.fromkeys(("next_run_at", "watched_since", "created_at", "updated_at"), 0)
    names = {"id": "s", "eval": "e", "tenant": "t", "creator": "k", "paused": False}
    return EvalSchedule.model_validate(wanted.model_dump() | rest | times | names)


def of_run() -> EvalRun:
    source = {
        "type": "completions",
        "model": MODEL,
        "source": {"type": "file_id", "id": "file-1"},
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
    }
    return EvalRun.model_validate(
        {
            "id": "r",
            "eval": "e",
            "tenant": "t",
            "job": "j",
            "name": "n",
            "data_source": source,
            "baseline": "b",
            "metadata": {},
            "results": {},
            "created_at": 0,
        }
    )


def test_drift_has_direction_size_interval_and_p():
    found = [statistics("good", [0.0] * 12, [1.0] * 12), statistics("bad", [1.0] * 12, [0.0] * 11 + [1.0])]
    good, bad = drift_of(of_run(), found, [], schedule_of(AlertRule()))
    assert (good.direction, bad.direction, good.seen_by) == ("better", "worse", ("baseline",))
    assert bad.against_baseline is not None
    assert bad.against_baseline.difference == pytest.approx(-11 / 12)
    assert bad.against_baseline.low < -11 / 12 < bad.against_baseline.high
    assert bad.against_baseline.p_value < 0.005
    assert direction_of([good, bad]) == "worse"
    assert direction_of([good]) == "better"


def test_an_alert_is_as_sure_and_as_large_as_the_schedule_asks_and_all_criteria_share_it():
    row = statistics("bad", [1.0] * 8, [0.0] * 8)  # p = 2 / 2**8 = 0.0078
    asked = {
        "as it is": (AlertRule(p_value=0.01), [row]),
        "surer": (AlertRule(p_value=0.005), [row]),
        "larger": (AlertRule(p_value=0.01, difference=1.1), [row]),
        "two criteria": (AlertRule(p_value=0.01), [row, statistics("same", [1.0] * 8, [1.0] * 8)]),
    }
    found = {
        name: direction_of(drift_of(of_run(), rows, [], schedule_of(alert))) for name, (alert, rows) in asked.items()
    }
    assert found == {"as it is": "worse", "surer": "none", "larger": "none", "two criteria": "none"}


def test_only_what_is_watched_counts():
    found = [statistics("bad", [1.0] * 12, [0.0] * 12), statistics("same", [1.0] * 12, [1.0] * 12)]
    (watched,) = drift_of(of_run(), found, [], schedule_of(AlertRule(), criteria=("same",)))
    assert (watched.criterion, watched.direction) == ("same", "none")


def test_history_alone_shows_what_the_last_run_as_baseline_hides():
    before = [RunResults(statistics=(statistics("x", [1.0] * 100, [1.0] * 100),)) for _ in range(FEWEST)]
    (found,) = drift_of(of_run(), [statistics("x", [0.9] * 100, [0.9] * 100)], before, schedule_of(AlertRule()))
    assert (found.direction, found.seen_by) == ("worse", ("history",))


def test_a_model_that_gets_worse_raises_the_alert_and_one_that_is_well_again_ends_it(evaluations: Evaluations):
    rows = [{"item": {"question": f"What is {n} and {n}?", "answer": ""}} for n in range(12)]
    headers = {"authorization": f"Bearer {evaluations.key.secret}"}
    gateway = evaluations.serving.gateway
    repository = EvalScheduleRepository(evaluations.workshop.database)

    def call(method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, f"{gateway.base_url}/flywheel/{path}", headers=headers, timeout=30, **options)

    def alert() -> list[str]:
        metrics = httpx.get(f"{gateway.url}/metrics").text
        return [
            line for line in metrics.splitlines() if line.startswith("flywheel_eval_schedules{") and line[-3:] != "0.0"
        ]

    eval_id = evaluations.create(SAYS_SOMETHING, EXACT, name="sums")
    body = {
        "eval_id": eval_id,
        "data_source": evaluations.sampled(rows),
        "timing": {"every_s": HOUR},
        "criteria": ["says something"],
    }
    made = call("POST", "eval_schedules", json=body)
    assert made.status_code == 201, made.text
    schedule, now = made.json(), int(time.time())
    assert call("GET", f"eval_history/{MODEL}").json()["data"] == []
    assert call("GET", f"eval_history/{MODEL}", params={"form": "svg"}).status_code == 404

    found = []
    for number, tokens in enumerate((8, 8, 0, 8)):
        evaluations.serving.engine.behaviour(tokens=tokens)
        (due,) = repository.make_due(now + number * HOUR, queue="cpu")
        evaluations.work(due.run)
        told = call("GET", f"eval_schedules/{schedule['id']}").json()
        found.append((told["drift"], told["last_run"] == due.run, alert()))
    state = f'flywheel_eval_schedules{{model="{MODEL}",state="%s"}} 1.0'
    steady, worse = [state % "steady"], [state % "worse"]
    assert found == [(None, True, steady), ("none", True, steady), ("worse", True, worse), ("none", True, steady)]

    history = call("GET", f"eval_history/{MODEL}").json()["data"]
    says = [point for point in history if point["criterion"] == "says something"]
    told = [(point["score"]["mean"], point["drift"]) for point in says]
    assert told == [(1, "none"), (1, "none"), (0, "worse"), (1, "none")]
    assert {point["drift"] for point in history if point["criterion"] == "exact"} == {None}
    assert call("GET", f"eval_history/{MODEL}", params={"form": "svg"}).text.count("says something") == 1
    assert call("GET", f"eval_history/{MODEL}", params={"form": "png", "eval": eval_id}).content[:4] == b"\x89PNG"
    run = evaluations.client.evals.runs.retrieve(says[2]["run_id"], eval_id=eval_id)
    (drift,) = run.model_dump()["drift"]
    assert (drift["direction"], drift["seen_by"], drift["baseline"]) == ("worse", ["baseline"], says[0]["run_id"])
    assert drift["against_baseline"]["difference"] == -1
    page = evaluations.client.get(f"/evals/{eval_id}/runs/{run.id}/report", cast_to=str)
    assert "worse (by baseline)" in page
    assert "Over time" in page
    other = {"authorization": f"Bearer {gateway.new_key().secret}"}
    assert httpx.get(f"{gateway.base_url}/flywheel/eval_history/{MODEL}", headers=other).json()["data"] == []
