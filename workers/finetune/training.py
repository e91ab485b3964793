"""The training itself, on peft and trl. Importing this module imports torch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import SFTConfig, SFTTrainer

from contracts.models import ModelCard
from workers.finetune.checkpoints import train_with_checkpoints
from workers.finetune.dataset import NumberedExample, TokenizedExample, tokenize
from workers.finetune.hyperparameters import TrainingPlan
from workers.finetune.progress import Progress
from workers.run import JobRun

LARGEST_MICRO_BATCH = 8


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    tokens: int
    metrics: dict[str, float]


def train_adapter(
    base: ModelCard, examples: Sequence[NumberedExample], plan: TrainingPlan, run: JobRun, folder: Path, *, seed: int
) -> TrainedAdapter:
    """Writes the adapter to `folder`. In bf16 on a GPU, in fp32 on a CPU. Raises JobFailed, and what `run` raises."""
    _quieten_libraries()
    if run.resources.threads is not None:
        torch.set_num_threads(run.resources.threads)
    transformers.set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base.weights)
    rows = tokenize(examples, tokenizer, context_length=base.context_length)
    on_gpu = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(base.weights, dtype=torch.bfloat16 if on_gpu else torch.float32)
    run.check()
    trainer = SFTTrainer(
        model=model,
        args=_arguments(plan, run.scratch / "trainer", seed=seed, on_gpu=on_gpu),
        train_dataset=_dataset(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=plan.rank,
            lora_alpha=plan.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[Progress(run)],
    )
    trainer.remove_callback(PrinterCallback)
    train_with_checkpoints(trainer, run)
    trainer.model.save_pretrained(folder)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TrainedAdapter(
        tokens=plan.epochs * sum(len(row.input_ids) for row in rows),
        metrics={
            "train_loss": round(fmean(losses[-max(1, len(losses) // plan.epochs) :]), 6),
            "first_train_loss": round(losses[0], 6),
            "steps": float(len(losses)),
        },
    )


def _arguments(plan: TrainingPlan, folder: Path, *, seed: int, on_gpu: bool) -> SFTConfig:
    micro_batch = max(size for size in range(1, LARGEST_MICRO_BATCH + 1) if plan.batch_size % size == 0)
    return SFTConfig(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=plan.batch_size // micro_batch,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, plan.total_steps // 20),
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=on_gpu,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=seed,
        data_seed=seed,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _dataset(rows: Sequence[TokenizedExample]) -> Dataset:
    return Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])


def _quieten_libraries() -> None:
    """The libraries print for a person at a terminal; a worker's logs are one JSON object a line."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    logging.getLogger("transformers").setLevel(logging.WARNING)
