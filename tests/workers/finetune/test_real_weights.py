"""Every method on real weights, measured on data that it did not learn from. `make test-long` runs these.

SmolLM2-135M-Instruct and all-MiniLM-L6-v2 on two cores; docs/fine-tuning.md has the figures.
"""

import json
import subprocess
import time
from pathlib import Path

import pytest

from contracts.datasets import read_rows
from tests.processes import ROOT
from tests.workers.finetune.bench import Bench

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

TEXT_MODEL, ENCODER = "smollm2-135m-instruct", "all-minilm-l6-v2"
EXAMPLES = ROOT / "examples"
ENGINE_PYTHON = ROOT / ".flywheel" / "envs" / "engine" / "bin" / "python"


@pytest.fixture(scope="session")
def real(bench: Bench) -> Bench:
    for name, task, context in ((TEXT_MODEL, "generate", 2048), (ENCODER, "embed", 256)):
        command = [ENGINE_PYTHON, "-m", "inference.weights", name]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        bench.add_base(name, Path(told.split()[-2]), task, context_length=context)
    return bench


def train(bench: Bench, method: str, base: str, *, files: str, suffix: str = "jsonl", **fields: object) -> dict:
    """The metrics of the model that a job makes of an example file, with its held-out rows for validation."""
    job = bench.create_job(
        method,
        base,
        seed=1,
        training_file=bench.add_file((EXAMPLES / f"{files}.{suffix}").read_bytes(), f"rows.{suffix}"),
        validation_file=bench.add_file((EXAMPLES / f"{files}_held_out.{suffix}").read_bytes(), f"rows.{suffix}"),
        **fields,
    )
    began_at = time.monotonic()
    bench.run(job, timeout_s=1700)
    seconds = round(time.monotonic() - began_at)
    metrics = bench.card(job).metrics
    told = {"method": method, "files": files, "hyperparameters": fields.get("hyperparameters"), "seconds": seconds}
    print(json.dumps(told | metrics))
    return metrics


@pytest.mark.parametrize("adaptation", ["lora", "rslora", "dora", "ia3", "prompt", "full"])
def test_supervised_tuning_predicts_unseen_answers_better(real: Bench, adaptation: str) -> None:
    chosen = {"adaptation": adaptation, "n_epochs": 2}
    metrics = train(real, "supervised", TEXT_MODEL, files="ships_computer", hyperparameters=chosen)
    assert metrics["valid_loss"] < 0.8 * metrics["valid_loss_before"]


def test_dpo_prefers_short_answers_to_unseen_questions(real: Bench) -> None:
    metrics = train(real, "dpo", TEXT_MODEL, files="preferences", hyperparameters={"n_epochs": 1})
    assert metrics["valid_rewards/accuracies_before"] == 0
    assert metrics["valid_rewards/accuracies"] > 0.9
    assert metrics["valid_rewards/margins"] > 1


def test_reinforcement_raises_the_reward_of_answers_to_unseen_questions(real: Bench) -> None:
    grader = {"type": "length", "name": "brief", "minimum": 1, "maximum": 10}
    chosen = {"n_epochs": 2, "max_completion_tokens": 40}
    metrics = train(real, "reinforcement", TEXT_MODEL, files="prompts", grader=grader, hyperparameters=chosen)
    assert metrics["valid_reward"] > metrics["valid_reward_before"] + 0.2


@pytest.mark.parametrize("domain", ["medicine", "code"])
def test_pretraining_lowers_the_perplexity_of_its_domain_and_spares_everyday_text(real: Bench, domain: str) -> None:
    general = real.add_file((EXAMPLES / "everyday_held_out.txt").read_bytes(), "everyday.txt")
    metrics = train(real, "pretraining", TEXT_MODEL, files=domain, suffix="txt", general_file=general)
    assert metrics["valid_perplexity"] < 0.8 * metrics["valid_perplexity_before"]
    assert metrics["general_perplexity"] < 1.2 * metrics["general_perplexity_before"]


def test_masked_language_modelling_names_more_masked_words_of_its_domain(real: Bench) -> None:
    metrics = train(real, "masked_language_modelling", ENCODER, files="medicine", suffix="txt")
    assert metrics["valid_perplexity"] < 0.5 * metrics["valid_perplexity_before"]
    assert metrics["valid_accuracy"] > metrics["valid_accuracy_before"] + 0.1


def test_classification_labels_texts_of_unseen_wording(real: Bench) -> None:
    metrics = train(real, "classification", ENCODER, files="topics")
    assert metrics["valid_accuracy"] > metrics["valid_accuracy_before"] + 0.3
    assert metrics["valid_accuracy"] > 0.75


def test_token_classification_finds_unseen_names(real: Bench) -> None:
    metrics = train(real, "token_classification", ENCODER, files="names")
    assert metrics["valid_f1_before"] < 0.2
    assert metrics["valid_f1"] > 0.7


def test_the_held_out_rows_are_not_among_those_learnt_from() -> None:
    for held_out in EXAMPLES.glob("*_held_out.jsonl"):
        learnt = EXAMPLES / held_out.name.replace("_held_out", "")
        seen, unseen = (set(_rows(file)) for file in (learnt, held_out))
        assert not seen & unseen, held_out.name


def _rows(file: Path) -> list[str]:
    with file.open("rb") as lines:
        _, rows = read_rows(lines, filename=file.name)
        return [repr(numbered.row) for numbered in rows]
