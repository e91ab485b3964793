"""Reinforcement fine-tuning by group relative policy optimisation (Shao et al., 2024).

Answers that a grader scores above the others to their prompt become likelier.
"""

from collections.abc import Callable
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from contracts.datasets import PromptRow
from contracts.fine_tuning import ReinforcementSpec
from contracts.graders import RewardModelGrader
from workers.finetune.adaptation import peft_config
from workers.finetune.base import load_causal_model, load_tokenizer
from workers.finetune.chat_tokens import ChatTokenizer, chat_ids
from workers.finetune.files import load_rows, too_long
from workers.finetune.hyperparameters import plan_training
from workers.finetune.output import write_causal
from workers.finetune.reward_model import RewardModel
from workers.finetune.task import DataFile, Reporter, Trained, TrainingTask
from workers.finetune.trainers import begin, common_arguments, processes, run_trainer
from workers.graders import score_by

LEARNING_RATE = 3e-4
FULL_LEARNING_RATE = 1e-5
SAMPLES, MAX_TOKENS, TEMPERATURE, BETA = 8, 48, 1.0, 0.02
PROMPTS_SEEN = 120
PROMPTS_IN_STEP = 4
NAMES = ("reward", "reward_std", "kl", "completions/mean_length")

Rewards = Callable[..., list[float]]


def train(task: TrainingTask, run: Reporter) -> Trained:
    spec = task.spec
    assert isinstance(spec, ReinforcementSpec)
    begin(task)
    wanted, adaptation = spec.hyperparameters, spec.hyperparameters.chosen_adaptation
    tokenizer = load_tokenizer(task)
    samples = SAMPLES if wanted.samples_per_prompt == "auto" else wanted.samples_per_prompt
    max_tokens = MAX_TOKENS if wanted.max_completion_tokens == "auto" else wanted.max_completion_tokens
    rows = {
        name: _rows(file, tokenizer, longest=task.base.context_length - max_tokens, param=name)
        for name, file in task.files.items()
    }
    examples = len(rows["training_file"])
    plan = plan_training(
        wanted,
        examples=examples,
        learning_rate=FULL_LEARNING_RATE if adaptation == "full" else LEARNING_RATE,
        auto_epochs=max(1, round(PROMPTS_SEEN / examples)),
        auto_batch=PROMPTS_IN_STEP,
    )
    rewards = _rewards(task)
    run.message(
        f"Training on {examples} prompts, {samples} answers each: {plan.epochs} epochs of batches of "
        f"{plan.batch_size} prompts, {plan.total_steps} steps, adaptation {adaptation}."
    )
    model = load_causal_model(task, adaptation)
    run.check()
    arguments = common_arguments(plan, task, validates="validation_file" in rows)
    arguments |= _batches(plan.batch_size, samples)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=GRPOConfig(
            **arguments,
            num_generations=samples,
            max_completion_length=max_tokens,
            temperature=TEMPERATURE if wanted.temperature == "auto" else wanted.temperature,
            beta=BETA if wanted.beta == "auto" else wanted.beta,
        ),
        train_dataset=Dataset.from_list(rows["training_file"]),
        eval_dataset=Dataset.from_list(rows["validation_file"]) if "validation_file" in rows else None,
        processing_class=tokenizer,
        peft_config=peft_config(wanted, tokenizer=str(task.weights)),
    )
    measured = run_trainer(trainer, plan, task, run, names=NAMES)
    form = write_causal(trainer.model, tokenizer, task, adaptation)
    return Trained(
        tokens=int(trainer.state.num_input_tokens_seen),
        metrics=measured.metrics(plan),
        earlier_s=measured.earlier_s,
        form=form,
    )


def _batches(prompts: int, samples: int) -> dict[str, int]:
    """trl counts answers: a micro batch holds all answers to one prompt in each process. Validation only generates,
    which takes as long for one prompt as for several.
    """
    at_once = prompts // processes()
    return {
        "per_device_train_batch_size": samples,
        "gradient_accumulation_steps": at_once,
        "per_device_eval_batch_size": samples * at_once,
    }


def _rows(file: DataFile, tokenizer: ChatTokenizer, *, longest: int, param: str) -> list[dict[str, Any]]:
    """Raises JobFailed that names a prompt which leaves no room for an answer."""
    prepared = []
    for numbered in load_rows(file, param=param):
        row = numbered.row
        assert isinstance(row, PromptRow)
        length = len(chat_ids(row.messages, tokenizer, add_generation_prompt=True))
        if length > longest:
            raise too_long(numbered.number, length, longest, param=param)
        prompt = [{"role": turn.role, "content": turn.content} for turn in row.messages]
        prepared.append({"prompt": prompt, "row": len(prepared), "file": param})
    return prepared


def _rewards(task: TrainingTask) -> Rewards:
    """A function as trl calls it: with the columns of the rows, one entry an answer."""
    spec = task.spec
    assert isinstance(spec, ReinforcementSpec)
    if isinstance(spec.grader, RewardModelGrader):
        assert task.reward_model is not None
        judge = RewardModel(spec.grader, task.reward_model)

        def reward(completions: list[Any], **_: Any) -> list[float]:
            return judge.score([_text(completion) for completion in completions])

        return reward

    score = score_by(spec.grader, param="method.reinforcement.grader")
    items = {name: [numbered.row.item for numbered in load_rows(file, param=name)] for name, file in task.files.items()}

    def reward(completions: list[Any], row: list[int], file: list[str], **_: Any) -> list[float]:
        return [
            score(_text(completion), items[name][number])
            for completion, number, name in zip(completions, row, file, strict=True)
        ]

    return reward


def _text(completion: Any) -> str:
    return str(completion[-1]["content"])
