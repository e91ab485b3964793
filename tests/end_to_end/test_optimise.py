"""A study of the default model on the real stack, from `flywheel optimise` to an answer of the recommended variant."""

import json
import re
from pathlib import Path

import pytest
import yaml

from contracts.studies import StudyReport
from tests.end_to_end.conftest import SLOW_S, TEXT_MODEL, Stack

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(4 * SLOW_S)]

PLAN = {
    "measurement": {"streams": [1, 8], "rounds": 2, "answer_tokens": 24, "longest_answer_tokens": 48},
    "sampling": {"sequences": 16, "tokens": 64},
    "variants": [
        {"name": "w8a8", "technique": "quantise", "scheme": "w8a8"},
        {
            "name": "ngram",
            "technique": "serve",
            "serving": {"adapters": False, "speculation": {"method": "ngram", "tokens": 3}},
        },
        {"name": "layers", "technique": "prune_layers", "share": 0.1, "heal_steps": 4},
        {"name": "student", "technique": "distil", "share": 0.5, "steps": 4},
    ],
}


@pytest.fixture(scope="module")
def report(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StudyReport, Path]:
    """What was printed, the report, and its folder. A low bar, so that a variant is recommended for its memory."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    options = ["--target", "memory", "--min-score", "0.01", "--plan", str(folder / "plan.yaml")]
    told = stack.flywheel("optimise", TEXT_MODEL, *options, "--watch", "--report", str(folder / "report"))
    return told, StudyReport.model_validate(json.loads((folder / "report" / "report.json").read_text())), folder


def test_every_variant_was_served_by_vllm_and_measured(report: tuple[str, StudyReport, Path]):
    _, study, folder = report
    assert {variant.name: variant.status for variant in study.variants} == dict.fromkeys(
        ("baseline", "w8a8", "ngram", "layers", "student"), "measured"
    )
    base, int8, layers, student = (study.variant(name).figures for name in ("baseline", "w8a8", "layers", "student"))
    assert int8.size_bytes < 0.7 * base.size_bytes
    assert layers.size_bytes < base.size_bytes
    assert student.size_bytes < layers.size_bytes
    assert int8.perplexity.mean < 1.2 * base.perplexity.mean
    assert base.perplexity.mean < layers.perplexity.mean < student.perplexity.mean
    assert all(load.joules_per_token > 0 for load in base.loads)
    assert (folder / "report" / "pareto.png").stat().st_size > 10_000


def test_speculation_does_not_change_what_is_said(report: tuple[str, StudyReport, Path]):
    _, study, _ = report
    base, ngram = (study.variant(name).figures for name in ("baseline", "ngram"))
    assert ngram.perplexity.mean == pytest.approx(base.perplexity.mean, rel=0.01)
    assert ngram.score.mean == pytest.approx(base.score.mean, abs=0.05)


def test_the_recommended_variant_answers_at_its_first_request(stack: Stack, report: tuple[str, StudyReport, Path]):
    told, study, _ = report
    name = re.search(r"The model is `(\S+)`\.", told).group(1)
    assert study.variant(study.recommendation.variant).card.name == name
    answer = stack.client().chat.completions.create(
        model=name, messages=[{"role": "user", "content": "Name a colour."}], max_tokens=8, timeout=SLOW_S
    )
    assert answer.model == name
    assert answer.choices[0].message.content
