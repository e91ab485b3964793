"""Direct preference optimisation (Rafailov et al., 2023): the better of two answers becomes likelier."""

from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from contracts.datasets import PreferencePair
from contracts.fine_tuning import DpoSpec
from workers.finetune.adaptation import peft_config
from workers.finetune.base import load_causal_model, load_tokenizer
from workers.finetune.chat_tokens import ChatTokenizer, answer_ids
from workers.finetune.files import load_rows, too_long
from workers.finetune.hyperparameters import plan_training
from workers.finetune.output import write_causal
from workers.finetune.task import DataFile, Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, common_arguments, run_trainer

LEARNING_RATE = 2e-4
FULL_LEARNING_RATE = 1e-5
BETA = 0.1
NAMES = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


class TokenizedDpoTrainer(DPOTrainer):
    """trl's trainer on rows that are token ids already, made as for every other method."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, DpoSpec)
    begin(task)
    wanted, adaptation = spec.hyperparameters, spec.hyperparameters.chosen_adaptation
    tokenizer = load_tokenizer(task)
    rows = {
        name: _tokenize(file, tokenizer, context_length=task.base.context_length, param=name)
        for name, file in task.files.items()
    }
    plan = plan_training(
        wanted,
        examples=len(rows["training_file"]),
        learning_rate=FULL_LEARNING_RATE if adaptation == "full" else LEARNING_RATE,
    )
    run.message(
        f"Training on {len(rows['training_file'])} preferences: {plan.epochs} epochs of batches of {plan.batch_size}, "
        f"{plan.total_steps} steps, adaptation {adaptation}."
    )
    model = load_causal_model(task, adaptation)
    reference = load_causal_model(task, adaptation) if adaptation == "full" else None
    run.check()
    trainer = TokenizedDpoTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            **common_arguments(plan, task, validates="validation_file" in rows),
            beta=BETA if wanted.beta == "auto" else wanted.beta,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(rows["training_file"]),
        eval_dataset=Dataset.from_list(rows["validation_file"]) if "validation_file" in rows else None,
        processing_class=tokenizer,
        peft_config=peft_config(wanted, tokenizer=str(task.weights)),
    )
    measured = run_trainer(trainer, plan, task, run, names=NAMES)
    form = write_causal(trainer.model, tokenizer, task, adaptation)
    return Trained(
        tokens=plan.epochs * sum(len(ids) for row in rows["training_file"] for ids in row.values()),
        metrics=measured.metrics(plan),
        earlier_s=measured.earlier_s,
        form=form,
    )


def _tokenize(
    file: DataFile, tokenizer: ChatTokenizer, *, context_length: int, param: str
) -> list[dict[str, list[int]]]:
    """Raises JobFailed that names a row longer than the context."""
    tokenized = []
    for numbered in load_rows(file, param=param):
        pair = numbered.row
        assert isinstance(pair, PreferencePair)
        prompt, chosen = answer_ids([*pair.input.messages, *pair.preferred_output], tokenizer)
        _, rejected = answer_ids([*pair.input.messages, *pair.non_preferred_output], tokenizer)
        longest = len(prompt) + max(len(chosen), len(rejected))
        if longest > context_length:
            raise too_long(numbered.number, longest, context_length, param=param)
        tokenized.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return tokenized
