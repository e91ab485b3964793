import json
from pathlib import Path

from workers.finetune.adapter import clean_adapter


def test_a_published_adapter_says_nothing_about_the_machine_that_made_it(tmp_path: Path) -> None:
    config = {"base_model_name_or_path": "/home/someone/models/base", "r": 16, "target_modules": ["v_proj", "k_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("base_model: /home/someone/models/base")
    clean_adapter(tmp_path, base_model="base")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    cleaned = json.loads((tmp_path / "adapter_config.json").read_text())
    assert cleaned == {"base_model_name_or_path": "base", "r": 16, "target_modules": ["k_proj", "v_proj"]}
