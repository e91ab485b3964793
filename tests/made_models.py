"""`python -m tests.made_models KIND SOURCE TARGET`, in the engine's environment: weights as jobs make them, untrained.

What they say is random but the same each time, so that it can be compared with what transformers computes here.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification, BertForTokenClassification, BertModel

from tests.sentences import SENTENCES

TEXT_LABELS = {0: "negative", 1: "neutral", 2: "positive"}
WORD_LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
RANK = 8


def make_adapter(source: Path, target: Path, seed: int) -> None:
    """A LoRA adapter on the attention of every layer, strong enough to change what is said."""
    config = json.loads((source / "config.json").read_text())
    torch.manual_seed(seed)
    hidden, heads, kv_heads = (config[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    sizes = {"q_proj": hidden, "v_proj": hidden // heads * kv_heads}
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module, size in sizes.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden) * 0.05
            weights[f"{name}.lora_B.weight"] = torch.randn(size, RANK) * 0.05
    save_file(weights, target / "adapter_model.safetensors")
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    adapter |= {"target_modules": sorted(sizes), "base_model_name_or_path": "smollm2-135m-instruct"}
    (target / "adapter_config.json").write_text(json.dumps(adapter))


def make_text_model(source: Path, target: Path) -> None:
    """The base with its last layer's output turned down."""
    for file in source.iterdir():
        if file.suffix in (".json", ".txt", ".jinja"):
            shutil.copy(file, target)
    weights = load_file(source / "model.safetensors")
    name = max(name for name in weights if name.endswith("mlp.down_proj.weight"))
    weights[name] = weights[name] * 0.25
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def make_classifier(source: Path, target: Path) -> None:
    torch.manual_seed(0)
    names = {label: number for number, label in TEXT_LABELS.items()}
    model = BertForSequenceClassification.from_pretrained(
        source, id2label=TEXT_LABELS, label2id=names, num_labels=len(names), problem_type="single_label_classification"
    ).eval()
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    _save(model, tokenizer, target)
    with torch.inference_mode():
        scores = model(**tokenizer(SENTENCES, padding=True, return_tensors="pt")).logits.softmax(-1)
    _expect(target, scores.tolist())


def make_token_classifier(source: Path, target: Path) -> None:
    torch.manual_seed(0)
    names = {label: number for number, label in WORD_LABELS.items()}
    model = BertForTokenClassification.from_pretrained(
        source, id2label=WORD_LABELS, label2id=names, num_labels=len(names)
    ).eval()
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    _save(model, tokenizer, target)
    expected = []
    for text in SENTENCES:
        encoding = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            best = model(**encoding).logits.softmax(-1).max(-1)
        words = encoding.word_ids()
        firsts = [at for at, word in enumerate(words) if word is not None and word not in words[:at]]
        expected.append([[WORD_LABELS[int(best.indices[0, at])], float(best.values[0, at])] for at in firsts])
    _expect(target, expected)


def make_embedder(source: Path, target: Path) -> None:
    """As masked-language training leaves it: without sentence-transformers' files, so without a word on pooling."""
    model, tokenizer = BertModel.from_pretrained(source).eval(), AutoTokenizer.from_pretrained(source)
    _save(model, tokenizer, target)
    inputs = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    means = (hidden * mask).sum(1) / mask.sum(1)
    _expect(target, torch.nn.functional.normalize(means).tolist())


def _save(model: torch.nn.Module, tokenizer: object, target: Path) -> None:
    model.save_pretrained(target)  # type: ignore[operator]
    tokenizer.save_pretrained(target)  # type: ignore[attr-defined]


def _expect(target: Path, expected: object) -> None:
    target.with_name(f"{target.name}.expected.json").write_text(json.dumps(expected))


def main() -> None:
    kind, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    target.mkdir(parents=True, exist_ok=True)
    match kind.split(":"):
        case ["adapter", seed]:
            make_adapter(source, target, int(seed))
        case ["text"]:
            make_text_model(source, target)
        case ["classifier"]:
            make_classifier(source, target)
        case ["token-classifier"]:
            make_token_classifier(source, target)
        case ["embedder"]:
            make_embedder(source, target)


if __name__ == "__main__":
    main()
