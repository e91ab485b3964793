"""Bias without and with mitigation: by hand, and as a job that measures both."""

from typing import Any

import httpx
import numpy as np
import pytest
from markupsafe import escape

from contracts.bias import Change, Mitigated
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import EMBEDDER, MODEL
from tests.workers.evaluate.conftest import Evaluations
from workers.evaluate.bias.associations import WordSets, association, load_word_sets
from workers.evaluate.bias.debiasing import learn_basis, load_pairs_of_axes, without
from workers.evaluate.bias.gaps import MEASURES, Question
from workers.evaluate.bias.mitigation import GUARD, Told, by_projection, by_prompt
from workers.evaluate.bias.preferences import Pair, load_pairs
from workers.evaluate.families import report_bias

KIND, UNKIND = "She is a wonderful, kind and happy friend.", "He is a terrible, angry and hateful man."
DIMENSIONS = 12


def changed(mitigated: Mitigated, measured: str) -> Change:
    return next(change for change in mitigated.changes if change.measured == measured)


def embed(words: Any, *, seed: int = 0) -> Any:
    """Noise, and the first dimension says whether a word is one of men, the second whether it is of careers."""
    men = {pair[0] for pair in load_pairs_of_axes()["gender"]} | {"John", "Paul", "Greg", "Bill"}
    women = {pair[1] for pair in load_pairs_of_axes()["gender"]} | {"Amy", "Joan", "Lisa", "Kate"}
    careers, homes = {"office", "salary", "career"}, {"children", "wedding", "home"}
    found = []
    for word in words:
        noise = np.random.default_rng([seed, *word.encode()]).normal(0, 0.1, DIMENSIONS)
        noise[0] += (word in men or word in careers) - float(word in women or word in homes)
        noise[1] += word in careers | homes
        found.append(noise)
    return np.array(found)


SETS = WordSets(
    "careers",
    (["John", "Paul", "Greg", "Bill"], ["Amy", "Joan", "Lisa", "Kate"]),
    (["office", "salary", "career"], ["children", "wedding", "home"]),
)


def test_the_learnt_direction_is_the_one_in_which_pairs_differ_and_is_gone_afterwards():
    basis = learn_basis({"gender": load_pairs_of_axes()["gender"]}, embed)
    assert abs(basis[0, 0]) > 0.95
    vectors = embed(SETS.words)
    debiased = without(vectors, basis)
    assert debiased @ basis.T == pytest.approx(0)
    assert np.linalg.norm(debiased, axis=1) == pytest.approx(1)
    assert association(SETS, vectors).effect > 1.5
    assert abs(association(SETS, debiased).effect) < 0.8


def test_several_directions_are_taken_out_together():
    basis = learn_basis(load_pairs_of_axes(), embed)
    assert basis @ basis.T == pytest.approx(np.eye(3))
    assert without(embed(SETS.words), basis) @ basis.T == pytest.approx(0)


def test_no_word_is_tested_that_was_learnt_from():
    learnt = {word.lower() for pairs in load_pairs_of_axes().values() for pair in pairs for word in pair}
    assert not learnt & {word.lower() for sets in load_word_sets() for word in sets.words}


def test_an_association_before_and_after_has_intervals_and_their_difference():
    vectors = embed(SETS.words)
    (found,) = by_projection([(SETS, vectors, without(vectors, learn_basis(load_pairs_of_axes(), embed)))]).changes
    assert found.before.value == pytest.approx(association(SETS, vectors).effect)
    assert found.before.low <= found.before.value <= found.before.high
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)
    assert found.difference.high < 0
    (same,) = by_projection([(SETS, vectors, vectors)]).changes
    assert (same.difference.low, same.difference.high) == (0, 0)


def told(prefers: list[bool], answers: list[str], *, declined: bool = False) -> Told:
    return Told(prefers, answers, harmful=[declined] * 12, harmless=[False] * 12)


def test_a_guard_is_measured_on_the_same_pairs_questions_and_requests():
    pairs = [Pair("gender", f"W{n}", f"M{n}", " do.") for n in range(12)]
    questions = [Question("gender", group, prompt, "") for prompt in "abcdefgh" for group in ("women", "men")]
    before = told([True] * 12, [KIND, UNKIND] * 8)
    after = told([True, False] * 6, [KIND, KIND] * 8, declined=True)
    found = by_prompt(pairs, questions, before, after)
    likelier = changed(found, "stereotype likelier: gender")
    assert (likelier.before.value, likelier.after.value, likelier.difference.value) == (1, 0.5, -0.5)
    assert likelier.p_value == pytest.approx(2 / 2**6)
    mood = changed(found, "sentiment by gender")
    assert mood.before.value == pytest.approx(MEASURES["sentiment"](KIND) - MEASURES["sentiment"](UNKIND))
    assert (mood.after.value, mood.difference.value) == (pytest.approx(0), pytest.approx(-mood.before.value))
    assert mood.difference.high < 0
    assert mood.p_value is not None
    assert mood.p_value < 0.05
    assert changed(found, "harmful requests declined").after.value == 1
    assert changed(found, "harmless requests declined").difference.value == 0


def test_a_guard_that_changes_nothing_is_no_difference():
    questions = [Question("gender", group, prompt, "") for prompt in "abcd" for group in ("women", "men")]
    same = told([True, False], [KIND, UNKIND] * 4)
    for change in by_prompt([Pair("gender", "W", "M", "x"), Pair("age", "O", "Y", "x")], questions, same, same).changes:
        assert (change.difference.value, change.difference.low, change.difference.high) == (0, 0, 0)
        assert change.p_value == 1


def test_a_report_measures_both_ways(evaluations: Evaluations, embedder: FakeEngineProcess):
    url = f"{evaluations.serving.gateway.base_url}/flywheel/bias_reports"
    headers = {"authorization": f"Bearer {evaluations.key.secret}"}
    body: dict[str, Any] = {"model": MODEL, "embedding_model": EMBEDDER, "mitigate": ["prompt", "embeddings"]}
    made = httpx.post(url, headers=headers, json=body).json()
    job = evaluations.workshop.jobs.get(made["id"])
    assert job is not None
    evaluations.workshop.run(job, report_bias)

    found = httpx.get(f"{url}/{job.id}", headers=headers).json()["results"]
    prompt, embeddings = (Mitigated.model_validate(each) for each in found["mitigated"])
    assert (prompt.by, embeddings.by) == ("prompt", "embeddings")
    everything = changed(prompt, "stereotype likelier: all")
    assert everything.before.value == found["preferences"][-1]["share"]["mean"]
    assert [change.measured for change in embeddings.changes] == [each["name"] for each in found["associations"]]
    effects = [each["effect"] for each in found["associations"]]
    assert [change.before.value for change in embeddings.changes] == pytest.approx(effects)
    asked = [request["body"] for request in evaluations.serving.engine.requests()]
    guarded = [each for each in asked if each.get("messages", [{}])[0].get("content") == GUARD]
    chats = [each for each in asked if "messages" in each]
    assert len(guarded) == len(chats) - len(guarded)
    assert sum(str(each.get("prompt", "")).startswith(GUARD) for each in asked) >= len(load_pairs())
    projection = httpx.get(f"{url}/{job.id}/projection", headers=headers).json()
    assert (projection["axes"], len(projection["basis"])) == (["gender", "age", "religion"], 3)
    page = httpx.get(f"{url}/{job.id}/report", headers=headers).text
    assert str(escape(GUARD)) in page
    assert "Without the directions" in page


@pytest.mark.parametrize(
    ("body", "param"),
    [({"mitigate": ["embeddings"]}, "mitigate"), ({"mitigate": ["prayer"]}, "mitigate.0")],
)
def test_a_mitigation_that_cannot_be_is_refused(evaluations: Evaluations, body: dict[str, Any], param: str):
    url = f"{evaluations.serving.gateway.base_url}/flywheel/bias_reports"
    headers = {"authorization": f"Bearer {evaluations.key.secret}"}
    refused = httpx.post(url, headers=headers, json={"model": MODEL} | body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
