"""Which layers of a base model adapters change: the linear ones of its blocks, as peft's "all-linear" means it."""

import json
from collections.abc import Iterator
from pathlib import Path

WEIGHTS = frozenset({"weight", "weight_packed"})
"""What a linear layer's matrix is called; packed where it is compressed."""
MATRIX = 2
LARGEST_HEADER_BYTES = 100_000_000


def adapter_layers(weights: Path) -> list[str]:
    """Their names, such as `q_proj`; empty where the folder has no safetensors.

    Embeddings and the output layer lie outside the numbered blocks, and are not among them.
    """
    return sorted({layer for file in weights.glob("*.safetensors") for layer in _layers(file)})


def _layers(file: Path) -> Iterator[str]:
    for tensor, entry in _header(file).items():
        parts = tensor.split(".")  # for example model.layers.0.self_attn.q_proj.weight
        in_block = any(part.isdigit() for part in parts[:-2])
        if in_block and parts[-1] in WEIGHTS and len(entry["shape"]) == MATRIX:
            yield parts[-2]


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    """github.com/huggingface/safetensors, "Format". Empty of what is no such file, which vLLM will refuse."""
    with file.open("rb") as source:
        size = int.from_bytes(source.read(8), "little")
        text = source.read(size) if size <= LARGEST_HEADER_BYTES else b""
    try:
        header: dict[str, dict[str, list[int]]] = json.loads(text)
    except ValueError:
        return {}
    header.pop("__metadata__", None)
    return header
