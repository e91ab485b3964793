"""Models as folders: read in fp32 to be changed, written in the type of the source's weights. Imports torch."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from workers.compress.told import CannotMake, Task

KEPT_FROM_SOURCE = ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def load(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Raises CannotMake for weights that are compressed already."""
    if getattr(AutoConfig.from_pretrained(folder), "quantization_config", None) is not None:
        raise CannotMake("It starts from weights that are quantised already, which cannot be changed any more.")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.config.use_cache = False
    return model


def save(model: PreTrainedModel, task: Task) -> None:
    """Weights, configuration and tokenizer, and no path of this machine."""
    dtype = AutoConfig.from_pretrained(task.source).dtype or torch.float32
    model.config.use_cache = True
    model.to(dtype).save_pretrained(task.output)
    AutoTokenizer.from_pretrained(task.source).save_pretrained(task.output)
    for name in KEPT_FROM_SOURCE:
        if (task.source / name).is_file() and not (task.output / name).exists():
            shutil.copyfile(task.source / name, task.output / name)
    config = json.loads((task.output / "config.json").read_text())
    config.pop("_name_or_path", None)
    (task.output / "config.json").write_text(json.dumps(config, indent=2))


def blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers. Raises CannotMake for a model that is not built like Llama."""
    found = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(found, torch.nn.ModuleList) or not hasattr(found[0], "mlp"):
        raise CannotMake(f"It is a {type(model).__name__}; this technique knows models built like Llama.")
    return found


def keep_blocks(model: PreTrainedModel, kept: list[int]) -> None:
    """Leaves out all other layers and numbers those anew."""
    layers = blocks(model)
    model.model.layers = torch.nn.ModuleList(layers[number] for number in kept)
    for place, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = place
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in kept]


def begin_with(task: Task) -> None:
    """The same threads and the same chance each time."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
