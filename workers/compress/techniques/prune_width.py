"""Leaves out the channels between a block's two linear layers that add least to its output, then heals."""

import torch
from transformers import PreTrainedModel

from workers.compress.techniques.folders import begin_with, blocks, load, save
from workers.compress.techniques.healing import heal
from workers.compress.techniques.program import run
from workers.compress.techniques.reach import input_reach, keep_inputs, keep_outputs
from workers.compress.told import CannotMake, Task, Teller

MULTIPLE = 64
"""Kernels like widths that divide by it."""


def prune_width(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    model, sequences = load(task.source), task.sequences()
    width = model.config.intermediate_size
    kept = kept_width(width, task.options["share"])
    keep_channels(model, channel_weights(model, sequences), kept)
    teller.message(f"Kept {kept} of {width} channels in each block.")
    facts = heal(model, task, sequences, teller)
    save(model, task)
    return {"channels": float(kept), **facts}


def kept_width(width: int, share: float) -> int:
    """Raises CannotMake where nothing would be left, or left out."""
    multiple = MULTIPLE if width >= 2 * MULTIPLE else 1
    kept = round(width * (1 - share) / multiple) * multiple
    if not 0 < kept < width:
        raise CannotMake(f"Of {width} channels no share of {share} can be left out in steps of {multiple}.")
    return kept


def channel_weights(model: PreTrainedModel, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Of each block, for each channel. Raises CannotMake for blocks that are built otherwise."""
    inner = [block.mlp for block in blocks(model)]
    if not hasattr(inner[0], "gate_proj"):
        raise CannotMake(f"It is a {type(model).__name__}, whose blocks have no gate of their own.")
    return input_reach(model, [layer.down_proj for layer in inner], sequences)


def keep_channels(model: PreTrainedModel, weights: list[torch.Tensor], kept: int) -> None:
    """The heaviest of each block, in the order in which they were."""
    for block, weight in zip(blocks(model), weights, strict=True):
        chosen = weight.topk(kept).indices.sort().values
        keep_outputs(block.mlp.gate_proj, chosen)
        keep_outputs(block.mlp.up_proj, chosen)
        keep_inputs(block.mlp.down_proj, chosen)
        block.mlp.intermediate_size = kept
    model.config.intermediate_size = kept


if __name__ == "__main__":
    run(prune_width)
