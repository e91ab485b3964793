"""The family `compress.study`: what it keeps, what it passes over, and what it says at the end."""

import json
import time
from contextlib import suppress

import psutil
import pytest

from contracts.serving import SERVING_FILE
from contracts.studies import BASELINE
from tests.gateway.conftest import wait_until
from tests.workers.compress.conftest import BASE, QUICKER_ENGINE, Laboratory
from workers.compress.families import study

pytestmark = pytest.mark.timeout(120)

PLAIN = {"name": "plain", **QUICKER_ENGINE}
NGRAM = {"name": "ngram", "technique": "serve", "serving": {"adapters": False, "speculation": {"method": "ngram"}}}
UNSERVED = {"name": "kv", "technique": "serve", "serving": {"kv_cache_dtype": "fp8"}}
UNMADE = {"name": "w8a8", "technique": "quantise", "scheme": "w8a8"}


def engines() -> list[int]:
    """Processes of this one that stand in for vLLM."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "--served-model-name" in process.cmdline():
                found.append(process.pid)
    return found


def test_each_variant_is_measured_and_the_recommended_one_becomes_a_model(laboratory: Laboratory):
    job = laboratory.job(PLAIN, NGRAM, target="memory")
    ended = laboratory.run(job)
    assert ended.status == "succeeded", laboratory.workshop.messages(job)

    report = laboratory.report(job)
    assert [variant.name for variant in report.variants] == [BASELINE, "plain", "ngram"]
    for variant in report.variants:
        assert variant.status == "measured", variant.reason
        figures = variant.figures
        assert [load.streams for load in figures.loads] == [1, 2]
        assert figures.loads[0].tokens_per_second.low <= figures.loads[0].tokens_per_second.median
        assert figures.peak_memory_bytes > 10 << 20
        assert figures.size_bytes == 4096
        assert figures.perplexity.mean == pytest.approx(2.718281828, rel=1e-3)  # a nat a token, as the engine says
        assert 0 < figures.score.mean < 1
    assert report.variants[1].figures.score_difference.mean == 0
    assert set(report.frontier) <= {BASELINE, "plain", "ngram"}
    assert engines() == []

    folder = f"{report.artifact}/report"
    names = {name.rpartition("/")[2] for name in laboratory.workshop.artifacts.files(folder)}
    assert names == {"report.json", "report.html", "pareto.svg", "pareto.png"}
    page = b"".join(laboratory.workshop.artifacts.read(f"{folder}/report.html")).decode()
    assert "<svg" in page
    assert "ngram" in page


def test_a_kept_variant_brings_how_it_is_served(laboratory: Laboratory):
    job = laboratory.job(NGRAM, target="memory", constraints={"min_score": 0})
    laboratory.run(job)
    kept = [variant for variant in laboratory.report(job).variants if variant.card is not None]
    for variant in kept:
        card, artifacts = variant.card, laboratory.workshop.artifacts
        assert card.name.startswith(f"ft:{BASE}:acme:ngram:")
        assert (card.kind, card.parent, card.job, card.on_demand) == ("full", BASE, job.id, True)
        options = json.loads(b"".join(artifacts.read(f"{card.weights}/{SERVING_FILE}")))
        assert options["speculation"]["method"] == "ngram"
        artifacts.check_model(card.weights)
    chosen = laboratory.report(job).recommendation.variant
    registered = laboratory.workshop.now(job).result_model
    assert (registered is None) == (chosen == BASELINE)


def test_what_cannot_be_made_or_served_is_told_and_the_study_goes_on(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_VLLM_REFUSES", "--kv-cache-dtype")
    on_top = {"name": "w8a8-ngram", "of": "w8a8", **{key: NGRAM[key] for key in ("technique", "serving")}}
    emulated = {"name": "fp8", "technique": "quantise", "scheme": "fp8"}
    job = laboratory.job(UNMADE, emulated, UNSERVED, on_top, PLAIN)
    assert laboratory.run(job).status == "succeeded"
    results = laboratory.results(job)
    assert results["w8a8"].status == "failed"
    assert "llmcompressor" in results["w8a8"].reason
    assert results["fp8"].status == "failed"
    assert "with no 8-bit floats" in results["fp8"].reason  # where there is no GPU, as here
    assert results["kv"].status == "not_served"
    assert results["kv"].reason == "ValueError: --kv-cache-dtype is not supported here"
    assert results["w8a8-ngram"].status == "failed"
    assert "`w8a8`" in results["w8a8-ngram"].reason
    assert results["plain"].status == "measured"


def test_a_study_whose_time_is_over_ends_with_what_it_has(laboratory: Laboratory):
    job = laboratory.job(PLAIN, max_minutes=0.001)
    assert laboratory.run(job).status == "succeeded"
    assert laboratory.results(job)["plain"].status == "not_begun"
    assert laboratory.report(job).recommendation.variant == BASELINE


def test_a_study_whose_model_is_not_served_fails_in_words(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_VLLM_REFUSES", "--model")
    ended = laboratory.run(laboratory.job(PLAIN))
    assert (ended.status, ended.error.code) == ("failed", "not_served")
    assert "--model is not supported here" in ended.error.message


def test_a_study_that_is_taken_up_again_keeps_what_was_finished(laboratory: Laboratory):
    job, workshop = laboratory.job(PLAIN, NGRAM), laboratory.workshop
    running = workshop.start(job, study)
    wait_until(lambda: "plain" in laboratory.results(job), 60)
    workshop.must_stop = True
    running.result(30)
    assert workshop.now(job).status == "queued"
    workshop.must_stop = False
    assert laboratory.run(job).status == "succeeded"
    assert set(laboratory.results(job)) == {BASELINE, "plain", "ngram"}
    assert any("2 variants are done with" in message for message in workshop.messages(job))
    assert {variant.name for variant in laboratory.report(job).variants} == {BASELINE, "plain", "ngram"}


def test_a_cancelled_study_leaves_no_engine_behind(laboratory: Laboratory):
    job, workshop = laboratory.job(PLAIN), laboratory.workshop
    running = workshop.start(job, study)
    wait_until(engines, 30)
    began_at = time.monotonic()
    workshop.jobs.cancel(job.id, tenant="acme")
    running.result(30)
    assert time.monotonic() - began_at < 2
    wait_until(lambda: not engines(), 5)
    assert workshop.now(job).status == "cancelled"


def test_a_worker_without_vllm_says_so(laboratory: Laboratory):
    laboratory.workshop.bench = None
    ended = laboratory.run(laboratory.job(PLAIN))
    assert (ended.status, ended.error.code) == ("failed", "no_engine")
