"""Leaves out the layers that change their input least (Men et al., "ShortGPT", 2024), then heals: what is left learns
from the whole model's distributions."""

from itertools import pairwise

import torch
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from workers.compress.techniques.folders import begin_with, blocks, keep_blocks, load, save
from workers.compress.techniques.healing import heal
from workers.compress.techniques.program import run
from workers.compress.techniques.reach import LOOKED_AT
from workers.compress.told import CannotMake, Task, Teller


def prune_layers(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    model, sequences = load(task.source), task.sequences()
    count = len(blocks(model))
    left_out = least_influential(influences(model, sequences[:LOOKED_AT]), round(task.options["share"] * count))
    keep_blocks(model, [number for number in range(count) if number not in left_out])
    teller.message(f"Left out layers {', '.join(map(str, sorted(left_out)))} of {count}.")
    facts = heal(model, task, sequences, teller)
    save(model, task)
    return {"layers": float(len(blocks(model))), **facts}


@torch.no_grad()
def influences(model: PreTrainedModel, sequences: list[list[int]]) -> list[float]:
    """Of each layer: 1 minus the cosine between what goes in and what comes out, a mean over tokens."""
    sums, tokens = torch.zeros(len(blocks(model))), 0
    model.eval()
    for sequence in sequences:
        states = model(input_ids=torch.tensor([sequence]), output_hidden_states=True).hidden_states
        alike = [cosine_similarity(before, after, dim=-1).sum() for before, after in pairwise(states)]
        sums += len(sequence) - torch.stack(alike)
        tokens += len(sequence)
    return (sums / tokens).tolist()


def least_influential(influence: list[float], count: int) -> set[int]:
    """Never the first or the last. Raises CannotMake where too few would be left."""
    inner = range(1, len(influence) - 1)
    if not 0 < count <= len(inner):
        raise CannotMake(f"{count} of {len(influence)} layers cannot be left out.")
    return set(sorted(inner, key=lambda number: influence[number])[:count])


if __name__ == "__main__":
    run(prune_layers)
