from typing import Any

import pytest
from pydantic import ValidationError

from contracts.fine_tuning import SupervisedHyperparameters, SupervisedSpec

SPEC: dict[str, Any] = {"base_model": "smol", "training_file": "file-1", "training_file_digest": "sha256:0"}


def test_a_spec_survives_its_way_through_the_database() -> None:
    spec = SupervisedSpec(**SPEC, suffix="support", seed=7, hyperparameters=SupervisedHyperparameters(n_epochs=3))
    assert SupervisedSpec.model_validate(spec.model_dump(mode="json")) == spec


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
        {"colour": "red"},
    ],
)
def test_a_spec_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SupervisedSpec(**SPEC | fields)
