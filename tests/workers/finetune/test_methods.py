"""Every method on random models of a few kilobytes, by the real runner: what jobs tell, make and refuse.

All jobs run in two processes of the worker's environment, since importing torch and its friends takes longer than all
of the training. What the methods do for real models is in test_real_weights.py.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from contracts.jobs import Job
from tests.processes import ROOT
from tests.workers.finetune.bench import Bench

pytestmark = pytest.mark.timeout(300)

CHATS = [json.loads(line) for line in (ROOT / "examples" / "ships_computer.jsonl").read_text().splitlines()]
LEARNT, HELD_OUT = CHATS[:40], CHATS[40:52]
"""As many rows are held out as fit in one batch, so that a loss is a mean over tokens however it is computed."""
WORDS, OTHER_WORDS = (" ".join(chat["messages"][1]["content"] for chat in part).encode() for part in (LEARNT, HELD_OUT))
SHORT = {"n_epochs": 2, "batch_size": 8}
ADAPTATIONS = ("lora", "rslora", "dora", "ia3", "prompt", "prefix", "full", "qlora")
SIMILAR = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "evaluation_metric": "fuzzy_match",
}
ROLLOUTS = {"n_epochs": 1, "samples_per_prompt": 2, "max_completion_tokens": 4}


def preferences() -> list[dict[str, Any]]:
    worse = [{"role": "assistant", "content": "No idea, sorry."}]
    return [
        {
            "input": {"messages": chat["messages"][:1]},
            "preferred_output": chat["messages"][1:],
            "non_preferred_output": worse,
        }
        for chat in CHATS
    ]


def prompts() -> list[dict[str, Any]]:
    return [{"messages": chat["messages"][:1], "answer": chat["messages"][1]["content"]} for chat in CHATS[:12]]


def labels() -> list[dict[str, str]]:
    return [{"text": turn["content"], "label": turn["role"]} for chat in CHATS for turn in chat["messages"]]


def tags() -> list[dict[str, list[str]]]:
    answers = [chat["messages"][1]["content"].split() for chat in CHATS]
    return [{"tokens": words, "ner_tags": ["B-PER", "I-PER", *["O"] * (len(words) - 2)]} for words in answers]


def shapes(weights: Path) -> dict[str, list[int]]:
    """From the header of a safetensors file: its length in eight bytes, and JSON."""
    content = weights.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


@pytest.fixture(scope="module")
def jobs(bench: Bench, tiny: Path) -> dict[str, Job]:
    learnt, held_out = bench.add_file(LEARNT), bench.add_file(HELD_OUT)
    text, other_text = bench.add_file(WORDS, "words.txt"), bench.add_file(OTHER_WORDS, "other.txt")

    def supervised(**chosen: Any) -> Job:
        return bench.create_job(
            "supervised",
            "tiny-text",
            training_file=learnt,
            validation_file=held_out,
            hyperparameters=SHORT | {"learning_rate_multiplier": 5} | chosen,
        )

    def encoder(method: str, rows: list[Any], **chosen: Any) -> Job:
        return bench.create_job(
            method,
            "tiny-encoder",
            training_file=bench.add_file(rows[:-20]),
            validation_file=bench.add_file(rows[-20:]),
            hyperparameters={"n_epochs": 2, "learning_rate_multiplier": 10} | chosen,
        )

    preferred = preferences()
    started = {
        **{adaptation: supervised(adaptation=adaptation) for adaptation in ADAPTATIONS},
        "again": supervised(adaptation="lora"),
        "packed": supervised(packing=True, batch_size=1),
        "dpo": bench.create_job(
            "dpo",
            "tiny-text",
            training_file=bench.add_file(preferred[:-12]),
            validation_file=bench.add_file(preferred[-12:]),
            hyperparameters=SHORT | {"learning_rate_multiplier": 20},
        ),
        "reinforcement": bench.create_job(
            "reinforcement",
            "tiny-text",
            training_file=bench.add_file(prompts()),
            grader=SIMILAR,
            hyperparameters=ROLLOUTS,
        ),
        "no-such-field": bench.create_job(
            "reinforcement",
            "tiny-text",
            training_file=bench.add_file(prompts()),
            grader=SIMILAR | {"reference": "{{ item.solution }}"},
            hyperparameters=ROLLOUTS,
        ),
        "pretraining": bench.create_job(
            "pretraining",
            "tiny-text",
            training_file=text,
            validation_file=other_text,
            general_file=bench.add_file([{"text": "The market opens early on Saturdays. " * 20}]),
            hyperparameters={"block_tokens": 64, "learning_rate_multiplier": 10},
        ),
        "masked_language_modelling": bench.create_job(
            "masked_language_modelling",
            "tiny-encoder",
            training_file=text,
            validation_file=other_text,
            hyperparameters={"block_tokens": 32, "learning_rate_multiplier": 10},
        ),
        "classification": encoder("classification", labels()),
        "token_classification": encoder("token_classification", tags()),
    }
    bench.run(*started.values())
    of_full = bench.card(started["masked_language_modelling"]).name
    judge = {"type": "reward_model", "name": "judge", "model": bench.card(started["classification"]).name}
    prompt_file = bench.add_file(prompts())
    following = {
        "of-full": bench.create_job(
            "classification", of_full, training_file=bench.add_file(labels()), hyperparameters=SHORT
        ),
        "judged": bench.create_job(
            "reinforcement",
            "tiny-text",
            training_file=prompt_file,
            grader=judge | {"label": "assistant"},
            hyperparameters=ROLLOUTS,
        ),
        "unknown-label": bench.create_job(
            "reinforcement",
            "tiny-text",
            training_file=prompt_file,
            grader=judge | {"label": "captain"},
            hyperparameters=ROLLOUTS,
        ),
    }
    bench.run(*following.values())
    in_two = {"two-processes": supervised(adaptation="lora")}  # made last, since a worker takes what waits
    settings = {"FLYWHEEL_WORKER__PROCESSES": "2", "FLYWHEEL_WORKER__CHECKPOINT_EVERY_S": "0.01"}
    bench.run(*in_two.values(), **settings)
    return started | following | in_two


@pytest.mark.parametrize("adaptation", ["lora", "rslora", "dora", "ia3", "prompt", "full"])
def test_supervised_tuning_lowers_the_loss_on_rows_it_has_not_seen(
    bench: Bench, jobs: dict[str, Job], adaptation: str
) -> None:
    metrics, job = bench.card(jobs[adaptation]).metrics, jobs[adaptation]
    assert metrics["valid_loss"] < metrics["valid_loss_before"]
    assert bench.curve(job, "valid_loss")[0] == metrics["valid_loss_before"]
    assert bench.curve(job, "full_valid_loss") == [metrics["valid_loss"]]
    assert len(bench.curve(job)) == metrics["steps"] == 10


def test_what_is_published_answers_as_what_was_trained(bench: Bench, jobs: dict[str, Job]) -> None:
    """Adapters and merged weights."""
    names = ["lora", "rslora", "dora", "ia3", "full"]
    told = [bench.card(jobs[name]).metrics["valid_loss"] for name in names]
    assert bench.losses(HELD_OUT, *(jobs[name] for name in names)) == pytest.approx(told, abs=2e-4)


def test_a_learnt_prompt_that_became_tokens_answers_as_it_did_in_training(bench: Bench, jobs: dict[str, Job]) -> None:
    """The new tokens take their part of the probability, which is seen in a vocabulary as small as this one."""
    published = shapes(bench.weights(jobs["prompt"]) / "model.safetensors")["lm_head.weight"][0]
    tokens = shapes(Path(bench.models.get("tiny-text").weights) / "model.safetensors")["model.embed_tokens.weight"][0]
    told = bench.card(jobs["prompt"]).metrics["valid_loss"]
    assert bench.losses(HELD_OUT, jobs["prompt"]) == [pytest.approx(told + math.log(published / tokens), abs=2e-3)]


@pytest.mark.parametrize(
    ("name", "kind", "task"),
    [
        ("lora", "adapter", "generate"),
        ("rslora", "adapter", "generate"),
        ("dora", "full", "generate"),
        ("ia3", "full", "generate"),
        ("prompt", "full", "generate"),
        ("full", "full", "generate"),
        ("dpo", "adapter", "generate"),
        ("reinforcement", "adapter", "generate"),
        ("pretraining", "adapter", "generate"),
        ("masked_language_modelling", "full", "embed"),
        ("classification", "full", "classify"),
        ("token_classification", "full", "token_classify"),
    ],
)
def test_a_model_is_published_in_the_form_that_engines_serve(
    bench: Bench, jobs: dict[str, Job], name: str, kind: str, task: str
) -> None:
    card, folder = bench.card(jobs[name]), bench.weights(jobs[name])
    assert (card.kind, card.task, card.on_demand) == (kind, task, kind == "full")
    assert card.data_digest is not None
    files = {path.name for path in folder.iterdir()}
    weights = {"adapter_model.safetensors"} if kind == "adapter" else {"model.safetensors"}
    described = {"adapter_config.json"} if kind == "adapter" else {"config.json", "tokenizer.json"}
    assert weights | described <= files
    assert not {file for file in files if file.endswith((".bin", ".pt", ".pkl", ".pth"))}
    texts = [path.read_text() for path in folder.glob("*.json")]
    assert not [text for text in texts if str(bench.folder) in text]


def test_labels_have_their_names(bench: Bench, jobs: dict[str, Job]) -> None:
    of_texts = json.loads((bench.weights(jobs["classification"]) / "config.json").read_text())
    of_words = json.loads((bench.weights(jobs["token_classification"]) / "config.json").read_text())
    assert of_texts["id2label"] == {"0": "assistant", "1": "user"}
    assert of_words["id2label"] == {"0": "O", "1": "B-PER", "2": "I-PER"}


def test_the_same_data_and_seed_give_the_same_weights(bench: Bench, jobs: dict[str, Job]) -> None:
    assert bench.card(jobs["again"]).digest == bench.card(jobs["lora"]).digest


def test_rows_that_share_a_sequence_do_not_see_each_other(bench: Bench, jobs: dict[str, Job]) -> None:
    alone, packed = (bench.card(jobs[name]).metrics for name in ("lora", "packed"))
    assert packed["valid_loss_before"] == pytest.approx(alone["valid_loss_before"], abs=1e-4)
    assert any("in 4 sequences" in message or "in 5 sequences" in message for message in bench.messages(jobs["packed"]))


def test_two_processes_learn_as_one_does(bench: Bench, jobs: dict[str, Job]) -> None:
    one, two = (bench.curve(jobs[name]) for name in ("lora", "two-processes"))
    assert two[0] == pytest.approx(one[0], abs=1e-4)
    assert two == pytest.approx(one, abs=5e-3)
    assert "Training in 2 processes." in bench.messages(jobs["two-processes"])


def test_dpo_prefers_what_is_preferred(bench: Bench, jobs: dict[str, Job]) -> None:
    metrics = bench.card(jobs["dpo"]).metrics
    assert metrics["valid_rewards/margins"] > metrics["valid_rewards/margins_before"] == 0
    assert len(bench.curve(jobs["dpo"], "train_rewards/accuracies")) == metrics["steps"]


@pytest.mark.parametrize("name", ["reinforcement", "judged"])
def test_reinforcement_tells_the_reward_of_every_step(bench: Bench, jobs: dict[str, Job], name: str) -> None:
    rewards = bench.curve(jobs[name], "train_reward")
    assert len(rewards) == bench.card(jobs[name]).metrics["steps"] == 3
    assert all(0 <= reward <= 1 for reward in rewards)


def test_pretraining_tells_perplexities_before_and_after(bench: Bench, jobs: dict[str, Job]) -> None:
    metrics = bench.card(jobs["pretraining"]).metrics
    assert metrics["valid_perplexity"] < metrics["valid_perplexity_before"]
    assert metrics["general_perplexity"] != metrics["general_perplexity_before"]
    assert bench.curve(jobs["pretraining"], "valid_perplexity") == [metrics["valid_perplexity"]]


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("masked_language_modelling", "valid_accuracy"),
        ("classification", "valid_f1"),
        ("token_classification", "valid_f1"),
    ],
)
def test_encoders_are_scored_before_and_after(bench: Bench, jobs: dict[str, Job], name: str, score: str) -> None:
    metrics = bench.card(jobs[name]).metrics
    assert metrics["valid_loss"] < metrics["valid_loss_before"]
    assert {score, f"{score}_before"} <= set(metrics)


def test_a_model_that_a_job_made_can_be_tuned_further(bench: Bench, jobs: dict[str, Job]) -> None:
    card = bench.card(jobs["of-full"])
    assert card.parent == bench.card(jobs["masked_language_modelling"]).name
    assert shapes(bench.weights(jobs["of-full"]) / "model.safetensors")["classifier.weight"] == [2, 32]


def test_a_learnt_prefix_is_kept_but_is_no_model(bench: Bench, jobs: dict[str, Job]) -> None:
    job = bench.now(jobs["prefix"])
    assert (job.status, job.result_model) == ("succeeded", None)
    assert "No engine can serve a learnt prefix" in bench.messages(jobs["prefix"])[-1]
    assert bench.curve(job, "valid_loss")[-1] < bench.curve(job, "valid_loss")[0]
    assert next(bench.artifacts.read(f"models/{job.id}/1/adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("qlora", "gpu_required", "needs a worker with a GPU"),
        ("no-such-field", "invalid_grader", "item.solution"),
        ("unknown-label", "invalid_grader", "it has assistant, user"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    bench: Bench, jobs: dict[str, Job], name: str, code: str, words: str
) -> None:
    error = bench.now(jobs[name]).error
    assert error is not None
    assert error.code == code
    assert words in error.message
