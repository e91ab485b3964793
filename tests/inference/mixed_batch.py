"""`python -m tests.inference.mixed_batch`, in the engine's environment: what vLLM adds to the outputs of a layer.

Prints two numbers as JSON: the most that was added to tokens of the base model, and how far what was added to those of
an adapter is from the product of its matrices. All places for adapters are taken, and the batch mixes both kinds.
"""

import json

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

import inference.cpu_adapters  # noqa: F401 (replaces functions of vLLM)

ADAPTERS = [11, 12, 13]
BATCH = [0, 0, 13, 13, 13, 0, 11, 0, 13]
"""The adapter of each token; 0 is the base."""
WIDTHS = (8, 6)
"""Of the parts that vLLM joins to one layer, such as `gate_proj` and `up_proj`."""
RANK, INPUTS = 4, 5


def main() -> None:
    torch.manual_seed(1)
    low = [torch.randn(len(ADAPTERS), 1, RANK, INPUTS) for _ in WIDTHS]
    high = [torch.randn(len(ADAPTERS), 1, width, RANK) for width in WIDTHS]
    inputs, outputs = torch.randn(len(BATCH), INPUTS), torch.zeros(len(BATCH), sum(WIDTHS))
    wrapper = PunicaWrapperCPU(64, 16, "cpu")
    wrapper.update_metadata(LoRAMapping(tuple(BATCH), tuple(BATCH), is_prefill=True), ADAPTERS, len(ADAPTERS), 100)
    wrapper.add_lora_linear(outputs, inputs, tuple(low), tuple(high), 0.5, WIDTHS)

    wanted = torch.zeros_like(outputs)
    for row, adapter in enumerate(BATCH):
        if adapter:
            place = ADAPTERS.index(adapter)
            parts = [0.5 * (inputs[row] @ a[place, 0].T @ b[place, 0].T) for a, b in zip(low, high, strict=True)]
            wanted[row] = torch.cat(parts)
    base = torch.tensor([adapter == 0 for adapter in BATCH])
    print(json.dumps([outputs[base].abs().max().item(), (outputs - wanted)[~base].abs().max().item()]))


main()
