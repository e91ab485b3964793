"""What vLLM's engine on a CPU adds to the outputs of a layer, with our functions in the place of its own."""

import json
import subprocess

import pytest

from tests.processes import ROOT

ENGINE_PYTHON = ROOT / ".flywheel/envs/engine/bin/python"


def test_adapters_change_their_own_tokens_and_no_others():
    command = [str(ENGINE_PYTHON), "-m", "tests.inference.mixed_batch"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    added_to_base, wrong_by = json.loads(told.splitlines()[-1])

    assert added_to_base == 0
    assert wrong_by == pytest.approx(0, abs=1e-5)
