"""Fewer bits for the weights of linear layers, by llmcompressor, in compressed-tensors' form, which vLLM loads.

w8a8   8-bit integers for weights (a scale a channel) and, at run time, for activations (a scale a token)
w8a16  8-bit integers for weights only
w4a16  4-bit integers for weights only, a scale for each group of a row
fp8    8-bit floats for both

`rtn` rounds to nearest and needs no data. `gptq` (Frantar et al., 2022) makes up for each rounding in the weights that
are not rounded yet, `awq` (Lin et al., 2023) first scales the channels that matter; both need samples.
"""

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.compress.told import CannotMake, Task, Teller, begin

GROUP_SIZES = (128, 64, 32)
"""vLLM's kernels know these; the largest that divides each row of each layer is taken."""
PRESETS = {"w8a8": "W8A8", "fp8": "FP8_DYNAMIC"}
OUTPUT_LAYER = "lm_head"


def quantise(task: Task, teller: Teller) -> None:
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    model = AutoModelForCausalLM.from_pretrained(task.source, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(task.source)
    scheme, algorithm = task.options["scheme"], task.options["algorithm"]
    wanted: dict[str, Any]
    if scheme == "w8a16":
        wanted = {"config_groups": {"all": _rounded(8, strategy="channel")}, "ignore": [OUTPUT_LAYER]}
    elif scheme == "w4a16":
        in_groups = _rounded(4, strategy="group", group_size=_group_size(model))
        wanted = {"config_groups": {"all": in_groups}, "ignore": [OUTPUT_LAYER]}
    else:
        wanted = {"scheme": PRESETS[scheme], "targets": ["Linear"], "ignore": [OUTPUT_LAYER]}
    data = {} if algorithm == "rtn" else _calibration(task.sequences())
    recipe: list[Any] = [QuantizationModifier(**wanted)]
    if algorithm == "gptq":
        recipe = [GPTQModifier(**wanted)]
    elif algorithm == "awq":
        recipe = [AWQModifier(), QuantizationModifier(**wanted)]
    teller.message(f"Quantising to {scheme} by {algorithm}.")
    oneshot(model=model, tokenizer=tokenizer, recipe=recipe, **data)
    model.save_pretrained(task.output, save_compressed=True)
    tokenizer.save_pretrained(task.output)
    _tidy(task.output)


def _rounded(bits: int, **scales: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, **scales}
    return {"targets": ["Linear"], "weights": weights}


def _group_size(model: torch.nn.Module) -> int:
    columns = {
        layer.in_features
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != OUTPUT_LAYER
    }
    for size in GROUP_SIZES:
        if all(width % size == 0 for width in columns):
            return size
    raise CannotMake(f"Its rows of {sorted(columns)} weights cannot be parted into groups of {GROUP_SIZES}.")


def _calibration(sequences: list[list[int]]) -> dict[str, Any]:
    rows = Dataset.from_list([{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in sequences])
    return {"dataset": rows, "num_calibration_samples": len(rows), "max_seq_length": max(map(len, sequences))}


def _tidy(folder: Path) -> None:
    """The recipe is YAML, which no servable model may hold; what matters of it is in config.json."""
    for left in folder.glob("recipe*.y*ml"):
        left.unlink()
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    task, teller = begin()
    try:
        quantise(task, teller)
    except CannotMake as reason:
        teller.failed(str(reason))
    else:
        teller.made()
