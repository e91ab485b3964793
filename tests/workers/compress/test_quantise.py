"""Quantisation by llmcompressor, in its own environment, on a random Llama of a few kilobytes."""

import json
import os
import subprocess
from typing import Any

import pytest

from store.artifacts import check_servable
from tests.processes import ROOT

ENVIRONMENTS = ROOT / ".flywheel" / "envs"
COMPRESS = ENVIRONMENTS / "compress" / "bin" / "python"
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not COMPRESS.is_file(), reason="`python3.11 cli/bootstrap.py compress` makes its environment"),
]


def python(environment: str, *arguments: str) -> str:
    command = [str(ENVIRONMENTS / environment / "bin" / "python"), *arguments]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("quantised")
    python("worker", "-m", "tests.workers.tiny_base", str(folder / "base"))
    told = python("compress", "-m", "tests.workers.compress.quantised", str(folder / "base"), str(folder))
    by_scheme: dict[str, Any] = json.loads(told.splitlines()[-1])
    return by_scheme


@pytest.mark.parametrize(
    ("scheme", "bits", "group_size", "activations", "furthest"),
    [
        ("w8a8-rtn", 8, None, True, 0.05),
        ("w8a16-rtn", 8, None, False, 0.03),
        ("w4a16-rtn", 4, 64, False, 0.3),
        ("w4a16-gptq", 4, 64, False, 0.3),
        ("fp8-rtn", 8, None, True, 0.15),
    ],
)
def test_a_scheme_keeps_nearly_what_the_model_says(
    found: dict[str, Any], scheme: str, bits: int, group_size: int | None, activations: bool, furthest: float
):
    of = found[scheme]
    assert (of["bits"], of["group_size"], of["activations"]) == (bits, group_size, activations)
    assert of["ignored"] == ["lm_head"]
    assert 0 < of["apart"] < furthest
    check_servable(of["files"])


def test_fewer_bits_lose_more(found: dict[str, Any]):
    assert found["w8a16-rtn"]["apart"] < found["w4a16-rtn"]["apart"]
