"""What the methods for encoders (BERT and its like) share. Importing this module imports torch."""

from collections.abc import Iterable
from typing import Any

from transformers import DataCollator, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from contracts.datasets import MAX_LABELS
from workers.finetune.hyperparameters import TrainingPlan
from workers.finetune.task import TrainingTask
from workers.finetune.trainers import common_arguments
from workers.run import JobFailed

LEARNING_RATE = 3e-4
SENTENCE_FILES = (
    "modules.json",
    "1_Pooling",
    "2_Normalize",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
"""How an embedding model pools its tokens (sbert.net); engines read it."""


def label_ids(labels: Iterable[str], *, first: tuple[str, ...] = ()) -> dict[str, int]:
    """Every label's number, in order of their names after those that come `first`.

    Raises JobFailed for too few or too many.
    """
    names = [*first, *sorted(set(labels) - set(first))]
    if not 2 <= len(names) <= MAX_LABELS:
        message = f"The training file has {len(names)} labels; there must be 2 to {MAX_LABELS}."
        raise JobFailed("invalid_training_file", message, param="training_file")
    return {name: number for number, name in enumerate(names)}


def unknown_label(label: str, row: int) -> JobFailed:
    message = f"Row {row} of the validation file has the label `{label}`, which the training file does not have."
    return JobFailed("invalid_validation_file", message, param="validation_file")


def encoder_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    collator: DataCollator,
    plan: TrainingPlan,
    task: TrainingTask,
    rows: dict[str, list[dict[str, Any]]],
    **options: Any,
) -> Trainer:
    from datasets import Dataset

    arguments = common_arguments(plan, task, validates="validation_file" in rows)
    arguments["gradient_checkpointing"] = False  # encoders are small
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        data_collator=collator,
        train_dataset=Dataset.from_list(rows["training_file"]),
        eval_dataset=Dataset.from_list(rows["validation_file"]) if "validation_file" in rows else None,
        processing_class=tokenizer,
        **options,
    )
    # The models take any keyword and pass over `num_items_in_batch`: the Trainer has to divide by the micro batches.
    trainer.model_accepts_loss_kwargs = False
    return trainer
