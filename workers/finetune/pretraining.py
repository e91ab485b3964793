"""Continued pre-training (Gururangan et al., 2020): a model learns the language of a domain from its texts."""

import math
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from contracts.fine_tuning import PretrainingSpec
from workers.finetune.adaptation import peft_config
from workers.finetune.base import load_causal_model, load_tokenizer
from workers.finetune.blocks import text_blocks
from workers.finetune.files import load_rows
from workers.finetune.hyperparameters import plan_training
from workers.finetune.output import write_causal
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.trainers import Measured, begin, common_arguments, run_trainer

LEARNING_RATE = 5e-4
FULL_LEARNING_RATE = 1e-4
BLOCK_TOKENS = 256
EPOCHS = 1
BATCH = 4


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, PretrainingSpec)
    begin(task)
    wanted, adaptation = spec.hyperparameters, spec.hyperparameters.chosen_adaptation
    tokenizer = load_tokenizer(task)
    length = min(BLOCK_TOKENS if wanted.block_tokens == "auto" else wanted.block_tokens, task.base.context_length)
    blocks = _blocks(task, tokenizer, length)
    datasets = {name: Dataset.from_list(_rows(found)) for name, found in blocks.items()}
    plan = plan_training(
        wanted,
        examples=len(blocks["training_file"]),
        learning_rate=FULL_LEARNING_RATE if adaptation == "full" else LEARNING_RATE,
        auto_epochs=EPOCHS,
        auto_batch=BATCH,
    )
    run.message(
        f"Training on {sum(map(len, blocks['training_file']))} tokens in {len(blocks['training_file'])} sequences: "
        f"{plan.epochs} epochs of batches of {plan.batch_size}, {plan.total_steps} steps, adaptation {adaptation}."
    )
    model = load_causal_model(task, adaptation)
    run.check()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **common_arguments(plan, task, validates="validation_file" in datasets),
            max_length=None,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=datasets["training_file"],
        eval_dataset=datasets.get("validation_file"),
        processing_class=tokenizer,
        peft_config=peft_config(wanted, tokenizer=str(task.weights)),
    )
    general = datasets.get("general_file")
    general_before = _general_loss(trainer, general)
    measured = run_trainer(trainer, plan, task, run, names=("mean_token_accuracy",))
    metrics = measured.metrics(plan) | perplexities(measured, general_before, _general_loss(trainer, general))
    tell_perplexities(run, plan.total_steps, metrics)
    form = write_causal(trainer.model, tokenizer, task, adaptation)
    return Trained(plan.epochs * sum(map(len, blocks["training_file"])), metrics, form, earlier_s=measured.earlier_s)


def perplexities(measured: Measured, general_before: float | None, general_after: float | None) -> dict[str, float]:
    """exp(loss) before and after, on the validation file and on the general one, of those that there are."""
    losses = {
        "valid_perplexity_before": measured.before.get("valid_loss"),
        "valid_perplexity": measured.after.get("valid_loss"),
        "general_perplexity_before": general_before,
        "general_perplexity": general_after,
    }
    return {name: round(math.exp(loss), 4) for name, loss in losses.items() if loss is not None}


def tell_perplexities(run: Reporter, steps: int, metrics: dict[str, float]) -> None:
    """One metrics event with the perplexities, where there are any."""
    told = {name: value for name, value in metrics.items() if "perplexity" in name}
    for kind in ("valid", "general"):
        if f"{kind}_perplexity" in told:
            before, after = told[f"{kind}_perplexity_before"], told[f"{kind}_perplexity"]
            what = "the validation file" if kind == "valid" else "the general file"
            run.message(f"Perplexity on {what}: {before:.2f} before, {after:.2f} after.")
    if told:
        run.metrics(f"Step {steps}/{steps}: perplexities", {"step": steps, "total_steps": steps, **told})


def _general_loss(trainer: SFTTrainer, general: Dataset | None) -> float | None:
    if general is None:
        return None
    measured = trainer.predict(general).metrics
    return float(measured["test_loss"])


def _blocks(task: TrainingTask, tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, list[list[int]]]:
    def tokenize(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    return {
        name: text_blocks(
            load_rows(file, param=name), tokenize, separator=tokenizer.eos_token_id, length=length, param=name
        )
        for name, file in task.files.items()
    }


def _rows(blocks: list[list[int]]) -> list[dict[str, Any]]:
    return [{"input_ids": block, "labels": block} for block in blocks]
