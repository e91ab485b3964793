"""What vLLM is told to compute in: `--dtype`.

Left to itself vLLM computes in 16 bits on every CPU. One that has no instructions for them converts each number back
and forth, and takes several times as long for a prompt: docs/performance.md, "CPUs without bfloat16".
"""

import json
from pathlib import Path

from inference.catalogue import EngineOptions

INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux's names of them, on x86 and on Arm."""
CPU = Path("/proc/cpuinfo")


def pick_dtype(options: EngineOptions, weights: Path, device: str, *, cpu: Path = CPU) -> str:
    """`float32` for weights without compression on such a CPU, where the catalogue leaves it to us.

    Kernels for compressed weights take activations of 16 bits only, or do best with them.
    """
    if options.dtype == "auto" and device == "cpu" and not _multiplies_bfloat16(cpu) and not _compressed(weights):
        return "float32"
    return options.dtype


def _multiplies_bfloat16(cpu: Path) -> bool:
    try:
        lines = cpu.read_text().splitlines()
    except OSError:
        return True  # not Linux: vLLM's own choice
    return any(INSTRUCTIONS & set(line.split()) for line in lines if line.startswith(("flags", "Features")))


def _compressed(weights: Path) -> bool:
    try:
        return "quantization_config" in json.loads((weights / "config.json").read_bytes())
    except (OSError, ValueError):
        return False  # vLLM will refuse it
