"""How far what goes into linear layers reaches, by which the parts of a model that matter least are found."""

import torch
from transformers import PreTrainedModel

LOOKED_AT = 16
"""Sequences that are looked at, the first ones."""


@torch.no_grad()
def input_reach(
    model: PreTrainedModel, layers: list[torch.nn.Linear], sequences: list[list[int]]
) -> list[torch.Tensor]:
    """Of each layer, for each of its inputs: its size, summed over tokens, times how far it reaches into the output."""
    sums = [torch.zeros(layer.in_features) for layer in layers]

    def add(number: int, inputs: torch.Tensor) -> None:
        sums[number] += inputs.abs().flatten(end_dim=-2).sum(0)

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, number=number: add(number, inputs[0]))
        for number, layer in enumerate(layers)
    ]
    model.eval()
    try:
        for sequence in sequences[:LOOKED_AT]:
            model(input_ids=torch.tensor([sequence]))
    finally:
        for hook in hooks:
            hook.remove()
    return [size * layer.weight.norm(dim=0) for size, layer in zip(sums, layers, strict=True)]


def keep_inputs(layer: torch.nn.Linear, kept: torch.Tensor) -> None:
    layer.weight = torch.nn.Parameter(layer.weight.index_select(1, kept).clone())
    layer.in_features = len(kept)


def keep_outputs(layer: torch.nn.Linear, kept: torch.Tensor) -> None:
    layer.weight = torch.nn.Parameter(layer.weight.index_select(0, kept).clone())
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(layer.bias.index_select(0, kept).clone())
    layer.out_features = len(kept)
