"""Checks of what jobs made, after its digest and before vLLM sees it."""

import json
from pathlib import Path
from typing import Any

from store.artifacts import ArtifactRefused

REMOTE_CODE_FIELDS = ("auto_map", "custom_pipelines")


def check_adapter(folder: Path, *, base: str, max_rank: int) -> None:
    """Raises ArtifactRefused where this is no LoRA adapter of `base` that an engine with `max_rank` can load."""
    config = _read(folder / "adapter_config.json")
    if not (folder / "adapter_model.safetensors").is_file():
        raise ArtifactRefused("It has no adapter_model.safetensors.")
    if config.get("peft_type") != "LORA":
        raise ArtifactRefused(f"It is no LoRA adapter, but {config.get('peft_type')}.")
    made_for = config.get("base_model_name_or_path")
    if made_for != base:
        raise ArtifactRefused(f"It was made for the model {made_for}, and not for {base}.")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and 0 < rank <= max_rank for rank in ranks):
        raise ArtifactRefused(f"Its rank is {', '.join(map(str, ranks))}; the engine takes 1 to {max_rank}.")


def check_model(folder: Path) -> None:
    """Raises ArtifactRefused where this is no whole model that can be loaded without code of its own."""
    _read(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        raise ArtifactRefused("It has no weights in safetensors.")
    for file in folder.rglob("*.json"):
        if asking := [field for field in REMOTE_CODE_FIELDS if field in _read(file)]:
            raise ArtifactRefused(f"{file.name} asks for code of its own ({asking[0]}).")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError:
        raise ArtifactRefused(f"It has no {file.name}.") from None
    except ValueError:
        raise ArtifactRefused(f"{file.name} is not valid JSON.") from None
    return found if isinstance(found, dict) else {}
