"""Masked-language pre-training (Devlin et al., 2018): an encoder learns the language of a domain from its texts.

Embedding models come without the layer that names the masked token. It then begins as one that changes nothing, is
learnt along, and left behind: what is published is the encoder, with the base's way of pooling, to embed texts or to be
tuned further.
"""

from typing import Any

import torch
from transformers import (
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from contracts.fine_tuning import MaskedLanguageModellingSpec
from workers.finetune.base import load_tokenizer
from workers.finetune.blocks import text_blocks
from workers.finetune.chat_tokens import IGNORED
from workers.finetune.encoders import LEARNING_RATE, SENTENCE_FILES, encoder_trainer
from workers.finetune.files import load_rows
from workers.finetune.hyperparameters import plan_training
from workers.finetune.output import copy_missing, write_whole
from workers.finetune.pretraining import perplexities, tell_perplexities
from workers.finetune.scores import accuracy
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, run_trainer

BLOCK_TOKENS = 128
MASK_PROBABILITY = 0.15
EPOCHS = 3
BATCH = 16


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, MaskedLanguageModellingSpec)
    begin(task)
    wanted, tokenizer = spec.hyperparameters, load_tokenizer(task)
    length = min(BLOCK_TOKENS if wanted.block_tokens == "auto" else wanted.block_tokens, task.base.context_length)
    rows = _rows(task, tokenizer, length)
    plan = plan_training(
        wanted,
        examples=len(rows["training_file"]),
        learning_rate=LEARNING_RATE,
        auto_epochs=EPOCHS,
        auto_batch=BATCH,
    )
    tokens = sum(len(row["input_ids"]) for row in rows["training_file"])
    run.message(
        f"Training on {tokens} tokens in {len(rows['training_file'])} sequences: {plan.epochs} epochs of batches of "
        f"{plan.batch_size}, {plan.total_steps} steps."
    )
    model = _load(task)
    run.check()
    collator = DataCollatorForLanguageModeling(
        tokenizer,
        mlm_probability=MASK_PROBABILITY if wanted.mask_probability == "auto" else wanted.mask_probability,
        seed=spec.seed,
    )
    trainer = encoder_trainer(
        model,
        tokenizer,
        collator,
        plan,
        task,
        rows,
        compute_metrics=_measure,
        preprocess_logits_for_metrics=lambda logits, _: logits.argmax(dim=-1),
    )
    measured = run_trainer(trainer, plan, task, run, names=("accuracy",))
    metrics = measured.metrics(plan) | perplexities(measured, None, None)
    tell_perplexities(run, plan.total_steps, metrics)
    write_whole(trainer.model.base_model, tokenizer, task)
    copy_missing(task.weights, task.output, SENTENCE_FILES)
    return Trained(plan.epochs * tokens, metrics, form="full", task="embed", earlier_s=measured.earlier_s)


def _load(task: TrainingTask) -> PreTrainedModel:
    """With the head's square layer as the identity where the base has none: tokens are named by their embeddings, which
    an encoder's output is near already. A random layer would take the first hundred steps to undo.
    """
    model, loaded = AutoModelForMaskedLM.from_pretrained(task.weights, output_loading_info=True)
    for name in loaded["missing_keys"]:
        weight = model.get_parameter(name)
        if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
            torch.nn.init.eye_(weight)
    return model


def _rows(task: TrainingTask, tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, list[dict[str, Any]]]:
    """Every sequence begins and ends as the encoder knows it."""
    begin_token, end_token = tokenizer.cls_token_id, tokenizer.sep_token_id

    def tokenize(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    return {
        name: [
            {"input_ids": [begin_token, *block, end_token]}
            for block in text_blocks(
                load_rows(file, param=name), tokenize, separator=None, length=length - 2, param=name
            )
        ]
        for name, file in task.files.items()
    }


def _measure(prediction: EvalPrediction) -> dict[str, float]:
    masked = prediction.label_ids != IGNORED
    return {"accuracy": accuracy(prediction.predictions[masked].tolist(), prediction.label_ids[masked].tolist())}
