"""The policies in examples/ are ones that a release takes."""

from pathlib import Path

import pytest
import yaml

from contracts.releases import Policy

POLICIES = sorted((Path(__file__).parents[2] / "examples").glob("*release-policy.yaml"))


@pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.name)
def test_it_has_an_evaluation_and_a_canary(file: Path):
    policy = Policy.model_validate(yaml.safe_load(file.read_text()))
    assert policy.evaluation is not None
    assert policy.canary[-1].share == 0.5
