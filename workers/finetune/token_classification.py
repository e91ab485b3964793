"""Token classification: an encoder that finds names (or other spans) in texts, as tags of words."""

from collections.abc import Sequence
from typing import Any

from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
)

from contracts.datasets import TagsRow
from contracts.fine_tuning import TokenClassificationSpec
from workers.finetune.base import load_tokenizer
from workers.finetune.chat_tokens import IGNORED
from workers.finetune.encoders import LEARNING_RATE, encoder_trainer, label_ids, unknown_label
from workers.finetune.files import load_rows
from workers.finetune.hyperparameters import FEWEST_EPOCHS, plan_training
from workers.finetune.output import write_whole
from workers.finetune.scores import entity_f1
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, run_trainer


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, TokenClassificationSpec)
    begin(task)
    tokenizer = load_tokenizer(task)
    files = {name: load_rows(file, param=name) for name, file in task.files.items()}
    tags = label_ids((tag for numbered in files["training_file"] for tag in _tags(numbered.row).ner_tags), first=("O",))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for name, numbered_rows in files.items():
        for numbered in numbered_rows:
            row = _tags(numbered.row)
            if unknown := next((tag for tag in row.ner_tags if tag not in tags), None):
                raise unknown_label(unknown, numbered.number)
            rows[name].append(_encode(row, tags, tokenizer, longest=task.base.context_length))
    plan = plan_training(
        spec.hyperparameters,
        examples=len(rows["training_file"]),
        learning_rate=LEARNING_RATE,
        fewest_epochs=FEWEST_EPOCHS[spec.method],
    )
    run.message(
        f"Training on {len(rows['training_file'])} texts with {len(tags)} tags: {plan.epochs} epochs of batches of "
        f"{plan.batch_size}, {plan.total_steps} steps."
    )
    names = {number: name for name, number in tags.items()}
    model = AutoModelForTokenClassification.from_pretrained(
        task.weights, num_labels=len(tags), label2id=tags, id2label=names
    )
    run.check()

    def measure(prediction: EvalPrediction) -> dict[str, float]:
        found, wanted = prediction.predictions.argmax(axis=-1).tolist(), prediction.label_ids.tolist()
        return {"f1": entity_f1(_named(found, wanted, names), _named(wanted, wanted, names))}

    trainer = encoder_trainer(
        model, tokenizer, DataCollatorForTokenClassification(tokenizer), plan, task, rows, compute_metrics=measure
    )
    measured = run_trainer(trainer, plan, task, run, names=("f1",))
    write_whole(trainer.model, tokenizer, task)
    return Trained(
        tokens=plan.epochs * sum(len(row["input_ids"]) for row in rows["training_file"]),
        metrics=measured.metrics(plan),
        earlier_s=measured.earlier_s,
        form="full",
        task="token_classify",
    )


def _tags(row: object) -> TagsRow:
    assert isinstance(row, TagsRow)
    return row


def _encode(row: TagsRow, tags: dict[str, int], tokenizer: PreTrainedTokenizerBase, *, longest: int) -> dict[str, Any]:
    """The first token of a word bears the word's tag; the others do not count."""
    encoded = tokenizer(row.tokens, is_split_into_words=True, truncation=True, max_length=longest)
    words: list[int | None] = encoded.word_ids()
    labels = [
        tags[row.ner_tags[word]] if word is not None and word != before else IGNORED
        for before, word in zip([None, *words], words, strict=False)
    ]
    return {"input_ids": encoded["input_ids"], "labels": labels}


def _named(tags: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], names: dict[int, str]) -> list[list[str]]:
    return [
        [names[tag] for tag, right in zip(row, rights, strict=True) if right != IGNORED]
        for row, rights in zip(tags, wanted, strict=True)
    ]
