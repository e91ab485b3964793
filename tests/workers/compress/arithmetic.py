"""`python -m tests.workers.compress.arithmetic FOLDER`, in the worker's environment: what each technique does to a
random Llama of a few kilobytes, as JSON. Importing torch takes longer than all of it, so it is one process.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from tests.workers.tiny_base import write_tiny_base
from workers.compress.techniques.distil import distil, evenly_spaced
from workers.compress.techniques.folders import blocks
from workers.compress.techniques.learning import learn
from workers.compress.techniques.merge import merge
from workers.compress.techniques.prune_heads import head_weights, keep_heads, kept_of_each, prune_heads
from workers.compress.techniques.prune_layers import influences, least_influential, prune_layers
from workers.compress.techniques.prune_weights import mask, prune_weights
from workers.compress.techniques.prune_width import channel_weights, keep_channels, kept_width, prune_width
from workers.compress.told import CannotMake, Task, Teller

LAYERS, HIDDEN, SILENT_LAYER = 4, 64, 2
TEXT = torch.arange(40).remainder(200).view(1, -1) + 5


def main(folder: Path) -> None:
    base = folder / "base"
    write_tiny_base(base, hidden=HIDDEN, layers=LAYERS)
    silence_a_layer(base)
    samples = folder / "samples.jsonl"
    rows = [[(start * 7 + place) % 200 + 5 for place in range(24)] for start in range(12)]
    samples.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def made_by(technique: Any, **options: Any) -> tuple[PreTrainedModel, dict[str, float]]:
        output = folder / f"{technique.__name__}-{len(list(folder.iterdir()))}"
        task = Task(base, output, samples, options, seed=0, threads=1, teacher=base)
        facts = technique(task, Teller(sys.stderr))
        return load(output), facts

    found = {
        "masks": masks(),
        "layers": layers(base, made_by, rows),
        "width": width(base, made_by, rows),
        "heads": heads(base, made_by, rows),
        "weights": sparse(made_by),
        "student": student(base, made_by, rows),
        "merged": merged(base, folder, made_by),
        "refused": refused(),
    }
    print(json.dumps(found))


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def silence_a_layer(base: Path) -> None:
    """One layer adds nothing, so leaving it out must change nothing."""
    model = load(base)
    with torch.no_grad():
        layer = blocks(model)[SILENT_LAYER]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(base)


@torch.no_grad()
def apart(one: PreTrainedModel, other: PreTrainedModel) -> float:
    return (one(TEXT).logits - other(TEXT).logits).abs().max().item()


def masks() -> dict[str, Any]:
    weights = torch.tensor([[1.0, -4.0, 3.0, 2.0, 0.1, 0.2, -0.4, 0.3]])
    return {
        "2:4": mask(weights, "2:4", 0.5).tolist(),
        "unstructured": mask(weights, "unstructured", 0.75).tolist(),
    }


def layers(base: Path, made_by: Any, rows: list[list[int]]) -> dict[str, Any]:
    whole = load(base)
    influence = influences(whole, rows[:2])
    made, facts = made_by(prune_layers, share=0.25, heal_steps=0)
    healed, healing = made_by(prune_layers, share=0.5, heal_steps=30)
    unhealed, _ = made_by(prune_layers, share=0.5, heal_steps=0)
    return {
        "influence": influence,
        "left_out": sorted(least_influential(influence, 1)),
        "count": len(blocks(made)),
        "apart": apart(whole, made),
        "facts": facts,
        "healing": healing,
        "healed_is_nearer": divergence(whole, healed, rows) < divergence(whole, unhealed, rows),
    }


@torch.no_grad()
def divergence(teacher: PreTrainedModel, other: PreTrainedModel, rows: list[list[int]]) -> float:
    text = torch.tensor(rows)
    wanted, said = (model(text).logits.log_softmax(-1) for model in (teacher, other))
    return (wanted.exp() * (wanted - said)).sum(-1).mean().item()


def width(base: Path, made_by: Any, rows: list[list[int]]) -> dict[str, Any]:
    whole = load(base)
    dead = copy.deepcopy(whole)
    chosen = torch.arange(0, 2 * HIDDEN, 2)
    with torch.no_grad():
        for block in blocks(dead):
            block.mlp.up_proj.weight[chosen] = 0  # half of the channels say nothing
    weights = channel_weights(dead, rows[:2])
    narrow = copy.deepcopy(dead)
    keep_channels(narrow, weights, HIDDEN)
    made, facts = made_by(prune_width, share=0.5, heal_steps=2)
    return {
        "dead_weigh": max(weight[chosen].max().item() for weight in weights[:2]),
        "apart": apart(dead, narrow),
        "width": made.config.intermediate_size,
        "facts": facts,
        "kept": [kept_width(1536, 0.25), kept_width(100, 0.5)],
    }


def heads(base: Path, made_by: Any, rows: list[list[int]]) -> dict[str, Any]:
    """Of four heads two are without effect: one of each pair that shares keys, or any two."""
    whole = load(base)
    own_keys = LlamaForCausalLM(LlamaConfig(**whole.config.to_dict() | {"num_key_value_heads": 4})).eval()
    found: dict[str, Any] = {"kept": [kept_of_each(3, 0.33), kept_of_each(12, 0.33)]}
    for name, model, silent in (("shared", whole, (0, 3)), ("own", own_keys, (1, 2))):
        size = model.config.hidden_size // 4
        with torch.no_grad():
            for block in blocks(model):
                for head in silent:
                    block.self_attn.o_proj.weight[:, head * size : (head + 1) * size] = 0
        weights = head_weights(model, rows[:2])
        fewer = copy.deepcopy(model)
        keep_heads(fewer, weights, 1 if name == "shared" else 2)
        found[name] = {
            "dead_weigh": max(layer.flatten()[list(silent)].max().item() for layer in weights),
            "apart": apart(model, fewer),
            "heads": [fewer.config.num_attention_heads, fewer.config.num_key_value_heads, fewer.config.head_dim],
        }
    made, found["facts"] = made_by(prune_heads, share=0.5, heal_steps=2)
    found["made"] = [made.config.num_attention_heads, made.config.num_key_value_heads, made.config.head_dim]
    return found


def sparse(made_by: Any) -> dict[str, Any]:
    made, facts = made_by(prune_weights, pattern="2:4", sparsity=0.5)
    fours = blocks(made)[0].mlp.gate_proj.weight.unflatten(1, (-1, 4))
    return {"zeros_of_four": sorted({int(count) for count in (fours == 0).sum(-1).flatten()}), "facts": facts}


def student(base: Path, made_by: Any, rows: list[list[int]]) -> dict[str, Any]:
    teacher = load(base)
    same = learn(copy.deepcopy(teacher), teacher, rows, steps=1, seed=0, teller=Teller(sys.stderr))
    by_logits, facts = made_by(distil, share=0.5, by="logits", steps=40)
    again, facts_again = made_by(distil, share=0.5, by="logits", steps=40)
    _, by_sequence = made_by(distil, share=0.5, by="sequence", steps=40)
    return {
        "of_its_own": same["first_loss"],
        "facts": facts,
        "facts_again": facts_again,
        "apart_again": apart(by_logits, again),
        "by_sequence": by_sequence,
        "spaced": [evenly_spaced(30, 0.5), evenly_spaced(4, 0.5)],
    }


def merged(base: Path, folder: Path, made_by: Any) -> dict[str, Any]:
    torch.manual_seed(1)
    beside = get_peft_model(load(base), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    beside.save_pretrained(folder / "adapter")
    made, _ = made_by(merge, adapter_folder=str(folder / "adapter"))
    return {"apart": apart(beside.eval(), made), "from_base": apart(load(base), made)}


def refused() -> list[str]:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    fused = Phi3ForCausalLM(Phi3Config(**sizes, vocab_size=8, pad_token_id=0))
    said = []
    for attempt in (
        lambda: evenly_spaced(4, 0.1),
        lambda: least_influential([0.1, 0.2, 0.3], 2),
        lambda: kept_width(64, 0.001),
        lambda: kept_of_each(3, 0.1),
        lambda: channel_weights(fused, []),
        lambda: head_weights(fused, []),
        lambda: mask(torch.ones(2, 6), "2:4", 0.5),
    ):
        try:
            attempt()
        except CannotMake as reason:
            said.append(str(reason))
    return said


if __name__ == "__main__":
    main(Path(sys.argv[1]))
