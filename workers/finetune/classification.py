"""Sequence classification: an encoder with a layer that tells one of several labels for a text."""

from typing import Any

from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, EvalPrediction

from contracts.datasets import LabelRow
from contracts.fine_tuning import ClassificationSpec
from workers.finetune.base import load_tokenizer
from workers.finetune.encoders import LEARNING_RATE, encoder_trainer, label_ids, unknown_label
from workers.finetune.files import load_rows
from workers.finetune.hyperparameters import FEWEST_EPOCHS, plan_training
from workers.finetune.output import write_whole
from workers.finetune.scores import accuracy, macro_f1
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, run_trainer


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, ClassificationSpec)
    begin(task)
    tokenizer = load_tokenizer(task)
    files = {name: load_rows(file, param=name) for name, file in task.files.items()}
    labels = label_ids(_label(numbered.row).label for numbered in files["training_file"])
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for name, numbered_rows in files.items():
        for numbered in numbered_rows:
            row = _label(numbered.row)
            if row.label not in labels:
                raise unknown_label(row.label, numbered.number)
            encoded = tokenizer(row.text, truncation=True, max_length=task.base.context_length)
            rows[name].append({"input_ids": encoded["input_ids"], "labels": labels[row.label]})
    plan = plan_training(
        spec.hyperparameters,
        examples=len(rows["training_file"]),
        learning_rate=LEARNING_RATE,
        fewest_epochs=FEWEST_EPOCHS[spec.method],
    )
    run.message(
        f"Training on {len(rows['training_file'])} texts with {len(labels)} labels: {plan.epochs} epochs of batches of "
        f"{plan.batch_size}, {plan.total_steps} steps."
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        task.weights,
        num_labels=len(labels),
        label2id=labels,
        id2label={number: name for name, number in labels.items()},
    )
    run.check()
    trainer = encoder_trainer(
        model, tokenizer, DataCollatorWithPadding(tokenizer), plan, task, rows, compute_metrics=_measure
    )
    measured = run_trainer(trainer, plan, task, run, names=("accuracy", "f1"))
    write_whole(trainer.model, tokenizer, task)
    return Trained(
        tokens=plan.epochs * sum(len(row["input_ids"]) for row in rows["training_file"]),
        metrics=measured.metrics(plan),
        earlier_s=measured.earlier_s,
        form="full",
        task="classify",
    )


def _label(row: object) -> LabelRow:
    assert isinstance(row, LabelRow)
    return row


def _measure(prediction: EvalPrediction) -> dict[str, float]:
    found, wanted = prediction.predictions.argmax(axis=-1).tolist(), prediction.label_ids.tolist()
    return {"accuracy": accuracy(found, wanted), "f1": macro_f1(found, wanted)}
