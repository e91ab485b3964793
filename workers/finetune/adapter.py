"""The adapter folder that is published: what an engine needs and nothing about the machine that made it."""

import json
from pathlib import Path

ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})


def clean_adapter(folder: Path, *, base_model: str) -> None:
    """Names the base model instead of its local folder, and removes files that engines do not read."""
    for path in folder.iterdir():
        if path.name not in ADAPTER_FILES:
            path.unlink()
    config_file = folder / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = base_model
    if "target_modules" in config:  # a learnt prefix has none
        config["target_modules"] = sorted(config["target_modules"])
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
