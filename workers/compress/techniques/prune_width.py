"""Leaves out the channels between a block's two linear layers that add least to its output, then heals."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from workers.compress.techniques.folders import begin_with, blocks, load, save
from workers.compress.techniques.learning import learn
from workers.compress.techniques.program import run
from workers.compress.told import CannotMake, Task, Teller

LOOKED_AT = 16
MULTIPLE = 64
"""Kernels like widths that divide by it."""


def prune_width(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    model, sequences = load(task.source), task.sequences()
    width = model.config.intermediate_size
    kept = kept_width(width, task.options["share"])
    keep_channels(model, channel_weights(model, sequences[:LOOKED_AT]), kept)
    teller.message(f"Kept {kept} of {width} channels in each block.")
    steps = task.options["heal_steps"]
    teacher = load(task.teacher or task.source, dtype=torch.bfloat16).eval() if steps else None
    facts = learn(model, teacher, sequences, steps=steps, seed=task.seed, teller=teller) if steps else {}
    save(model, task)
    return {"channels": float(kept), **facts}


def kept_width(width: int, share: float) -> int:
    """Raises CannotMake where nothing would be left, or left out."""
    multiple = MULTIPLE if width >= 2 * MULTIPLE else 1
    kept = round(width * (1 - share) / multiple) * multiple
    if not 0 < kept < width:
        raise CannotMake(f"Of {width} channels no share of {share} can be left out in steps of {multiple}.")
    return kept


@torch.no_grad()
def channel_weights(model: PreTrainedModel, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Of each block, for each channel: its mean size over tokens, times how far it reaches into the output."""
    model.eval()
    with _listening(model) as sizes:
        for sequence in sequences:
            model(input_ids=torch.tensor([sequence]))
    reach = [block.mlp.down_proj.weight.norm(dim=0) for block in blocks(model)]
    return [size * far for size, far in zip(sizes, reach, strict=True)]


@contextmanager
def _listening(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Sums of what goes into each block's last layer."""
    sums = [torch.zeros(block.mlp.down_proj.in_features) for block in blocks(model)]

    def add(number: int, inputs: torch.Tensor) -> None:
        sums[number] += inputs.abs().flatten(end_dim=-2).sum(0)

    hooks = [
        block.mlp.down_proj.register_forward_pre_hook(lambda _, inputs, number=number: add(number, inputs[0]))
        for number, block in enumerate(blocks(model))
    ]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def keep_channels(model: PreTrainedModel, weights: list[torch.Tensor], kept: int) -> None:
    """The heaviest of each block, in the order in which they were."""
    for block, weight in zip(blocks(model), weights, strict=True):
        chosen = weight.topk(kept).indices.sort().values
        for name, dim in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            layer = getattr(block.mlp, name)
            layer.weight = torch.nn.Parameter(layer.weight.index_select(dim, chosen).clone())
            layer.out_features, layer.in_features = layer.weight.shape
        block.mlp.intermediate_size = kept
    model.config.intermediate_size = kept


if __name__ == "__main__":
    run(prune_width)
