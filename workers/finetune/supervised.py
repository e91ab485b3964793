"""Supervised fine-tuning: answers like the assistant's in the training file."""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer, pack_dataset

from contracts.fine_tuning import SupervisedSpec
from workers.finetune.adaptation import peft_config
from workers.finetune.augmentation import augmented
from workers.finetune.base import load_causal_model, load_tokenizer
from workers.finetune.chat_tokens import TokenizedExample, tokenize_chats
from workers.finetune.files import load_rows
from workers.finetune.hyperparameters import LEARNING_RATES, plan_training
from workers.finetune.output import write_causal
from workers.finetune.task import Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, common_arguments, run_trainer

PACKED_TOKENS = 512


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, SupervisedSpec)
    begin(task)
    wanted, adaptation = spec.hyperparameters, spec.hyperparameters.chosen_adaptation
    tokenizer = load_tokenizer(task)
    rows = {
        name: tokenize_chats(
            augmented(load_rows(file, param=name), spec, param=name),
            tokenizer,
            context_length=task.base.context_length,
            all_answers=wanted.learn_from == "all_answers",
            param=name,
        )
        for name, file in task.files.items()
    }
    packing = wanted.packing is True
    datasets = {name: _dataset(examples, packed=packing) for name, examples in rows.items()}
    plan = plan_training(wanted, examples=len(datasets["training_file"]), learning_rate=LEARNING_RATES[adaptation])
    run.message(
        f"Training on {len(rows['training_file'])} examples{_in_sequences(datasets, packing)}: {plan.epochs} epochs of "
        f"batches of {plan.batch_size}, {plan.total_steps} steps, adaptation {adaptation}."
    )
    model = load_causal_model(task, adaptation)
    run.check()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **common_arguments(plan, task, validates="validation_file" in datasets),
            max_length=None,
            packing=False,
            padding_free=packing,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=datasets["training_file"],
        eval_dataset=datasets.get("validation_file"),
        processing_class=tokenizer,
        peft_config=peft_config(wanted, tokenizer=str(task.weights)),
    )
    measured = run_trainer(trainer, plan, task, run, names=("mean_token_accuracy",))
    form = write_causal(trainer.model, tokenizer, task, adaptation)
    return Trained(
        tokens=plan.epochs * sum(len(row.input_ids) for row in rows["training_file"]),
        metrics=measured.metrics(plan),
        earlier_s=measured.earlier_s,
        form=form,
    )


def _dataset(rows: list[TokenizedExample], *, packed: bool) -> Dataset:
    dataset = Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    if not packed:
        return dataset
    longest = max(len(row.input_ids) for row in rows)
    return pack_dataset(dataset, max(PACKED_TOKENS, longest), strategy="bfd")


def _in_sequences(datasets: dict[str, Dataset], packing: bool) -> str:
    return f" in {len(datasets['training_file'])} sequences" if packing else ""
