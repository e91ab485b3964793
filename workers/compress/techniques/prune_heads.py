"""Leaves out the attention heads that add least to their layer's output (after Michel et al., "Are Sixteen Heads Really
Better than One?", 2019), then heals.

Every layer keeps as many. Where several query heads share one head of keys and values, each such group loses the same
number of query heads and the cache keeps its size; otherwise a head goes with its keys and values.
"""

import torch
from transformers import PreTrainedModel

from workers.compress.techniques.folders import begin_with, blocks, load, save
from workers.compress.techniques.healing import heal
from workers.compress.techniques.program import run
from workers.compress.techniques.reach import input_reach, keep_inputs, keep_outputs
from workers.compress.told import CannotMake, Task, Teller


def prune_heads(task: Task, teller: Teller) -> dict[str, float]:
    begin_with(task)
    model, sequences = load(task.source), task.sequences()
    heads = model.config.num_attention_heads
    weights = head_weights(model, sequences)
    keep_heads(model, weights, kept_of_each(weights[0].shape[1], task.options["share"]))
    kept = model.config.num_attention_heads
    teller.message(f"Kept {kept} of {heads} heads in each layer.")
    facts = heal(model, task, sequences, teller)
    save(model, task)
    return {"heads": float(kept), **facts}


def kept_of_each(heads: int, share: float) -> int:
    """Of the `heads` that are chosen among. Raises CannotMake where none would be left, or left out."""
    kept = round(heads * (1 - share))
    if not 0 < kept < heads:
        raise CannotMake(f"Of {heads} heads no share of {share} can be left out.")
    return kept


def head_weights(model: PreTrainedModel, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Of each layer: [groups, query heads of a group], or [1, heads] where each has keys and values of its own.

    Raises CannotMake for attention that is built otherwise.
    """
    attention = [block.self_attn for block in blocks(model)]
    if not hasattr(model.config, "head_dim") or not hasattr(attention[0], "q_proj"):
        raise CannotMake(f"It is a {type(model).__name__}, whose heads cannot be fewer than its width holds.")
    heads, groups = model.config.num_attention_heads, model.config.num_key_value_heads
    reach = input_reach(model, [layer.o_proj for layer in attention], sequences)
    by_head = [inputs.unflatten(0, (heads, -1)).sum(-1) for inputs in reach]
    return [layer.view(1 if heads == groups else groups, -1) for layer in by_head]


def keep_heads(model: PreTrainedModel, weights: list[torch.Tensor], kept: int) -> None:
    """The `kept` heaviest of each row, in the order in which they were."""
    config = model.config
    size = blocks(model)[0].self_attn.q_proj.out_features // config.num_attention_heads
    own_keys = config.num_attention_heads == config.num_key_value_heads
    for block, weight in zip(blocks(model), weights, strict=True):
        attention, (groups, of_each) = block.self_attn, weight.shape
        first = torch.arange(groups).unsqueeze(1) * of_each
        heads = (weight.topk(kept).indices.sort().values + first).flatten()
        chosen = (heads.unsqueeze(1) * size + torch.arange(size)).flatten()
        keep_outputs(attention.q_proj, chosen)
        keep_inputs(attention.o_proj, chosen)
        if own_keys:
            keep_outputs(attention.k_proj, chosen)
            keep_outputs(attention.v_proj, chosen)
        else:
            attention.num_key_value_groups = kept
    config.head_dim = size
    config.num_attention_heads = kept * len(weights[0])
    if own_keys:
        config.num_key_value_heads = kept


if __name__ == "__main__":
    run(prune_heads)
