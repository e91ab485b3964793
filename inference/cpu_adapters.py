"""Adapters in vLLM's engines on a CPU, a run of tokens at a time.

vLLM 0.32 does two things there that we cannot have (`vllm/lora/ops/torch_ops/lora_ops.py`). It takes the index -1 of
tokens without an adapter for the last place, so that an adapter in that place changes the base model's answers, and the
prefixes that are kept of them, whenever both are in one batch. And it copies an adapter's matrices for every token,
which makes a prompt of 200 tokens wait seconds. Importing this module in vLLM's worker replaces the three functions.
"""

from collections.abc import Iterator

import torch
from vllm.lora.punica_wrapper import punica_cpu

Tensor = torch.Tensor


class AdaptersByRuns:
    """What `--worker-extension-cls` names, so that vLLM's worker imports this module. It adds nothing to the worker."""


def _runs(starts: Tensor, lengths: Tensor, places: Tensor, matrices: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of tokens that follow each other with one adapter, and its matrix (out, in). Others are left out."""
    for start, length, place in zip(starts.tolist(), lengths.tolist(), places.tolist(), strict=True):
        if place >= 0:
            yield slice(start, start + length), matrices[place].flatten(end_dim=-2)


def shrink(
    inputs: Tensor,
    matrices: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    places: Tensor,
    _batches: int,
    _longest: int,
    _tokens: int,
    scaling: float,
) -> None:
    """output (tokens, rank) = scaling · inputs (tokens, in) · matrixᵀ, by `matrices` (places, 1, rank, in)."""
    for rows, matrix in _runs(starts, lengths, places, matrices):
        low = inputs[rows].to(output.dtype) @ matrix.to(output.dtype).T
        output[rows, : matrix.shape[0]] = low.mul_(scaling)


def expand(
    inputs: Tensor,
    matrices: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    places: Tensor,
    batches: int,
    longest: int,
    tokens: int,
    add_inputs: bool = False,
) -> None:
    """output (tokens, out) + or = inputs (tokens, rank) · matrixᵀ, by `matrices` (places, 1, out, rank)."""
    width = min(matrices.shape[-2], output.shape[1])
    of_width = matrices[..., :width, :]
    expand_slice(inputs, of_width, output, starts, lengths, places, batches, longest, tokens, 0, width, add_inputs)


def expand_slice(
    inputs: Tensor,
    matrices: Tensor,
    output: Tensor,
    starts: Tensor,
    lengths: Tensor,
    places: Tensor,
    _batches: int,
    _longest: int,
    _tokens: int,
    offset: int,
    width: int,
    add_inputs: bool = False,
) -> None:
    """The same for the columns from `offset` on."""
    for rows, matrix in _runs(starts, lengths, places, matrices):
        high = inputs[rows].to(output.dtype) @ matrix.to(output.dtype).T
        columns = output[rows, offset : offset + width]
        if add_inputs:
            columns += high
        else:
            columns.copy_(high)


punica_cpu.sgmv_shrink = shrink
punica_cpu.sgmv_expand = expand
punica_cpu.sgmv_expand_slice = expand_slice
