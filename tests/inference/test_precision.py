"""What an engine computes in, by what the CPU has instructions for."""

import json
from pathlib import Path

import pytest

from inference.catalogue import EngineOptions
from inference.precision import pick_dtype

OLD = "processor\t: 0\nflags\t\t: fpu avx avx2 fma\n"
NEW = "processor\t: 0\nflags\t\t: fpu avx avx2 avx512f avx512_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


@pytest.mark.parametrize(("cpu", "dtype"), [(OLD, "float32"), (NEW, "auto"), (ARM, "auto")])
def test_a_cpu_without_instructions_for_bfloat16_computes_in_32_bits(weights: Path, cpu: str, dtype: str):
    (weights / "cpuinfo").write_text(cpu)

    assert pick_dtype(EngineOptions(), weights, "cpu", cpu=weights / "cpuinfo") == dtype


def test_what_the_catalogue_says_stands(weights: Path):
    (weights / "cpuinfo").write_text(OLD)

    assert pick_dtype(EngineOptions(dtype="bfloat16"), weights, "cpu", cpu=weights / "cpuinfo") == "bfloat16"


def test_gpus_and_compressed_weights_keep_vllms_choice(weights: Path):
    (weights / "cpuinfo").write_text(OLD)
    assert pick_dtype(EngineOptions(), weights, "cuda", cpu=weights / "cpuinfo") == "auto"

    (weights / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "compressed-tensors"}}))
    assert pick_dtype(EngineOptions(), weights, "cpu", cpu=weights / "cpuinfo") == "auto"


def test_without_a_list_of_the_cpus_instructions_vllm_chooses(weights: Path):
    assert pick_dtype(EngineOptions(), weights, "cpu", cpu=weights / "absent") == "auto"
