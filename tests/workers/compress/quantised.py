"""`python -m tests.workers.compress.quantised BASE FOLDER`, in llmcompressor's environment: a tiny Llama by schemes.

Prints what was written of each, and how far its logits are from what they were, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from workers.compress.techniques.quantise import quantise
from workers.compress.told import Task, Teller

SCHEMES = (("w8a8", "rtn"), ("w8a16", "rtn"), ("w4a16", "rtn"), ("w4a16", "gptq"), ("fp8", "rtn"))


def main(base: Path, folder: Path) -> None:
    samples = folder / "samples.jsonl"
    rows = [[(start * 7 + place) % 200 + 5 for place in range(24)] for start in range(8)]
    samples.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    print(json.dumps({f"{scheme}-{algorithm}": _of(scheme, algorithm, base, folder) for scheme, algorithm in SCHEMES}))


def _of(scheme: str, algorithm: str, base: Path, folder: Path) -> dict[str, Any]:
    output = folder / f"{scheme}-{algorithm}"
    samples = None if algorithm == "rtn" else folder / "samples.jsonl"
    options = {"scheme": scheme, "algorithm": algorithm}
    quantise(Task(base, output, samples, options, seed=0, threads=1), Teller(sys.stderr))
    config = json.loads((output / "config.json").read_text())
    group = next(iter(config["quantization_config"]["config_groups"].values()))
    return {
        "apart": _apart(base, output),
        "bits": group["weights"]["num_bits"],
        "group_size": group["weights"]["group_size"],
        "activations": group["input_activations"] is not None,
        "ignored": config["quantization_config"]["ignore"],
        "files": sorted(path.name for path in output.iterdir()),
    }


@torch.no_grad()
def _apart(base: Path, output: Path) -> float:
    """Relative to the size of what the models say."""
    text = torch.arange(40).remainder(200).view(1, -1) + 5
    wanted, said = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(text).logits
        for folder in (base, output)
    )
    return ((said - wanted).norm() / wanted.norm()).item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
