"""The built-in catalogue with other options for its engines."""

from pathlib import Path
from typing import Any

import yaml

from inference.catalogue import BUILT_IN


def write_catalogue(folder: Path, **options: Any) -> Path:
    """The file, whose models all have these of vLLM's options."""
    catalogue = yaml.safe_load(BUILT_IN.read_text())
    for model in catalogue["models"]:
        model["engine"] = model.get("engine", {}) | options
    file = folder / "catalogue.yaml"
    file.write_text(yaml.safe_dump(catalogue))
    return file
