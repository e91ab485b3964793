from typing import Any

import pytest
from pydantic import ValidationError

from contracts.fine_tuning import (
    DpoSpec,
    ReinforcementSpec,
    SupervisedHyperparameters,
    SupervisedSpec,
    parse_spec,
)

SPEC: dict[str, Any] = {"base_model": "smol", "training_file": "file-1", "training_file_digest": "sha256:0"}
GRADER = {"type": "json_schema", "name": "json", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    "spec",
    [
        SupervisedSpec(**SPEC, suffix="support", seed=7, hyperparameters=SupervisedHyperparameters(n_epochs=3)),
        DpoSpec(**SPEC, hyperparameters={"beta": 0.3}),
        ReinforcementSpec(**SPEC, grader=GRADER),
    ],
)
def test_a_spec_survives_its_way_through_the_database(spec: Any) -> None:
    assert parse_spec(spec.model_dump(mode="json", by_alias=True)) == spec


def test_a_spec_of_the_time_before_methods_is_supervised() -> None:
    old = {**SPEC, "suffix": None, "seed": 1, "hyperparameters": {"n_epochs": 2, "lora_rank": 8}}
    assert isinstance(parse_spec(old), SupervisedSpec)


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": "a:b"},
        {"suffix": "a\n"},
        {"seed": -1},
        {"hyperparameters": {"n_epochs": 0}},
        {"hyperparameters": {"n_epochs": 51}},
        {"hyperparameters": {"n_epochs": "many"}},
        {"hyperparameters": {"batch_size": 0}},
        {"hyperparameters": {"learning_rate_multiplier": 0}},
        {"hyperparameters": {"lora_rank": 65}},
        {"hyperparameters": {"epochs": 1}},
        {"hyperparameters": {"adaptation": "magic"}},
        {"hyperparameters": {"adaptation": "full", "lora_rank": 8}},
        {"hyperparameters": {"adaptation": "lora", "virtual_tokens": 8}},
        {"hyperparameters": {"adaptation": "prompt", "packing": True}},
        {"hyperparameters": {"beta": 0.1}},
        {"colour": "red"},
    ],
)
def test_a_spec_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SupervisedSpec(**SPEC | fields)


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "python", "name": "own", "source": "print()"},
        {"type": "json_schema", "name": "slow", "schema": {"properties": {"a": {"pattern": "(a+)+"}}}},
        {"type": "length", "name": "none", "minimum": 5, "maximum": 4},
        {"type": "text_similarity", "name": "s", "input": "a", "reference": "b", "evaluation_metric": "cosine"},
        {"type": "regex", "name": "", "pattern": "a"},
    ],
)
def test_a_grader_that_could_not_be_run_safely_is_refused(grader: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReinforcementSpec(**SPEC, grader=grader)
