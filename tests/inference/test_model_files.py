"""What is refused although its digest is right."""

import json
from pathlib import Path

import pytest

from inference.model_files import check_adapter, check_model
from store.artifacts import ArtifactRefused

ADAPTER = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "tiny"}


def adapter(folder: Path, **config: object) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER | config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_a_sound_adapter_passes(tmp_path: Path) -> None:
    check_adapter(adapter(tmp_path, rank_pattern={"q_proj": 16}), base="tiny", max_rank=16)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"r": 128}, "rank is 128; the engine takes 1 to 64"),
        ({"r": 0}, "rank"),
        ({"r": "8"}, "rank"),
        ({"rank_pattern": {"q_proj": 128}}, "rank is 8, 128"),
        ({"base_model_name_or_path": "other"}, "made for the model other"),
        ({"peft_type": "PROMPT_TUNING"}, "no LoRA adapter, but PROMPT_TUNING"),
    ],
)
def test_an_adapter_that_the_engine_cannot_load_is_refused(tmp_path: Path, config: dict[str, object], why: str) -> None:
    with pytest.raises(ArtifactRefused, match=why):
        check_adapter(adapter(tmp_path, **config), base="tiny", max_rank=64)


def test_an_adapter_without_weights_or_with_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=r"no adapter_config\.json"):
        check_adapter(tmp_path, base="tiny", max_rank=64)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ArtifactRefused, match="not valid JSON"):
        check_adapter(tmp_path, base="tiny", max_rank=64)
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(ArtifactRefused, match=r"no adapter_model\.safetensors"):
        check_adapter(tmp_path, base="tiny", max_rank=64)


def test_a_whole_model_needs_safetensors_and_no_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactRefused, match="no weights"):
        check_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    check_model(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "mine.Tokenizer"}}')
    with pytest.raises(ArtifactRefused, match=r"tokenizer_config\.json asks for code"):
        check_model(tmp_path)
