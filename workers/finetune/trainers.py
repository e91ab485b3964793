"""What every training does with its Trainer, of trl or transformers. Importing this module imports torch."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, Trainer

from workers.finetune.checkpoints import train_with_checkpoints
from workers.finetune.hyperparameters import TrainingPlan
from workers.finetune.progress import FINAL, Progress
from workers.finetune.task import Reporter, TrainingTask
from workers.run import JobFailed

LARGEST_MICRO_BATCH = 8
VALIDATION_BATCH = 16
LOOKS_AT_VALIDATION = 4
"""How often the validation file is measured while training, besides before and after it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Losses of the training steps, and what was measured on the validation file (empty without one).

    `earlier_s` as in Trained.
    """

    losses: list[float]
    before: dict[str, float]
    after: dict[str, float]
    earlier_s: float

    def metrics(self, plan: TrainingPlan) -> dict[str, float]:
        """For the model card."""
        last_epoch = self.losses[-max(1, len(self.losses) // plan.epochs) :]
        return {
            "train_loss": round(fmean(last_epoch), 6),
            "first_train_loss": round(self.losses[0], 6),
            "steps": float(len(self.losses)),
            **{f"{name}_before": value for name, value in self.before.items()},
            **self.after,
        }


def begin(task: TrainingTask) -> None:
    """Sets what holds for the process: threads, the seed, quiet libraries."""
    _quieten_libraries()
    if task.threads is not None:
        torch.set_num_threads(max(1, task.threads // processes_here()))
    transformers.set_seed(task.spec.seed)


def processes() -> int:
    """How many train together, over all machines (torchrun sets it)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """Those of them on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def on_gpu() -> bool:
    return torch.cuda.is_available()


def common_arguments(plan: TrainingPlan, task: TrainingTask, *, validates: bool) -> dict[str, Any]:
    """Arguments of transformers.TrainingArguments and of all that inherit from it.

    A step sees `plan.batch_size` rows whatever the number of processes. Raises JobFailed where they cannot share them.
    """
    count = processes()
    if plan.batch_size % count:
        message = f"A batch of {plan.batch_size} cannot be shared by the worker's {count} processes."
        raise JobFailed("batch_not_divisible", message, param="batch_size")
    share = plan.batch_size // count
    micro_batch = max(size for size in range(1, LARGEST_MICRO_BATCH + 1) if share % size == 0)
    validation: dict[str, Any] = {"eval_strategy": "no"}
    if validates:
        every = max(1, -(-plan.total_steps // LOOKS_AT_VALIDATION))
        validation = {"eval_strategy": "steps", "eval_steps": every, "per_device_eval_batch_size": VALIDATION_BATCH}
    return {
        "output_dir": str(task.scratch / "trainer"),
        "num_train_epochs": plan.epochs,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": share // micro_batch,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, plan.total_steps // 20),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": on_gpu(),
        "bf16": on_gpu(),
        "use_cpu": not on_gpu(),
        "seed": task.spec.seed,
        "data_seed": task.spec.seed,
        "dataloader_pin_memory": on_gpu(),
        "ddp_find_unused_parameters": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **validation,
    }


def run_trainer(
    trainer: Trainer, plan: TrainingPlan, task: TrainingTask, run: Reporter, *, names: Sequence[str] = ()
) -> Measured:
    """Trains with checkpoints, and measures the validation data before and after. Raises what `run.check` raises.

    `names` are what the trainer logs besides the loss and shall be told.
    """
    progress = Progress(run, total_steps=plan.total_steps, names=names)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(progress)
    run.check()
    validates = trainer.eval_dataset is not None
    before = progress.chosen(trainer.evaluate()) if validates else {}
    began_at = time.monotonic()
    train_with_checkpoints(trainer, run, every_s=task.checkpoint_every_s)
    earlier_s = progress.time_of_earlier_steps(time.monotonic() - began_at)
    with progress.telling(FINAL):
        after = progress.chosen(trainer.evaluate()) if validates else {}
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return Measured(losses, before, after, earlier_s)


def _quieten_libraries() -> None:
    """The libraries print for a person at a terminal; a worker's logs are one JSON object a line."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    logging.getLogger("transformers").setLevel(logging.WARNING)
    import datasets

    datasets.disable_progress_bars()
