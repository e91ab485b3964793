"""Writes what a training made in the form in which it can be served: safetensors only, and no path of this machine."""

import shutil
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from contracts.fine_tuning import SERVED_AS_ADAPTER, Adaptation
from workers.finetune.adapter import clean_adapter
from workers.finetune.soft_prompt import as_tokens
from workers.finetune.task import TrainingTask

Form = Literal["adapter", "full", "unserved"]
NOT_PUBLISHED = frozenset({"training_args.bin", "README.md"})


def write_causal(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, task: TrainingTask, adaptation: Adaptation
) -> Form:
    """An adapter where engines can load one, else whole weights; a learnt prefix, which none can, as it is."""
    if adaptation in SERVED_AS_ADAPTER or adaptation == "prefix":
        model.save_pretrained(task.output)
        clean_adapter(task.output, base_model=task.base.name)
        return "unserved" if adaptation == "prefix" else "adapter"
    if adaptation == "prompt":
        model, tokenizer = as_tokens(model, tokenizer)
    elif isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model.config.use_cache = True
    write_whole(model, tokenizer, task)
    return "full"


def write_whole(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: TrainingTask) -> None:
    """Weights in the type of the base's, configuration, tokenizer and chat template."""
    dtype = AutoConfig.from_pretrained(task.weights).dtype or torch.float32
    model.to(dtype).save_pretrained(task.output)
    tokenizer.save_pretrained(task.output)
    for path in task.output.iterdir():
        if path.name in NOT_PUBLISHED:
            path.unlink()


def copy_missing(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Files and folders that the base has and that `save_pretrained` does not write."""
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        elif (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)
