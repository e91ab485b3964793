"""What was left of a model learns from the whole one's distributions to do without the rest."""

import torch
from transformers import PreTrainedModel

from workers.compress.techniques.folders import load
from workers.compress.techniques.learning import learn
from workers.compress.told import Task, Teller


def heal(model: PreTrainedModel, task: Task, sequences: list[list[int]], teller: Teller) -> dict[str, float]:
    """For the `heal_steps` of the task's options, maybe none. Returns what `learn` does."""
    steps = task.options["heal_steps"]
    if not steps:
        return {}
    teacher = load(task.teacher or task.source, dtype=torch.bfloat16).eval()
    return learn(model, teacher, sequences, steps=steps, seed=task.seed, teller=teller)
