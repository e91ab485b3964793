"""`python -m inference.convert GGUF FOLDER`: a GGUF file as a bf16 safetensors folder with its chat template.

The only module of the agent that needs torch; it is run as a process of its own.
"""

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    name = gguf.name
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
