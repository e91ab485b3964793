"""What is learnt beside the rows of the training file, where a job asks for it."""

from collections.abc import Sequence

from contracts.datasets import NumberedRow
from contracts.fine_tuning import FineTuningSpec
from workers.finetune.counterfactual import with_counterfactuals

TRAINING = "training_file"


def augmented(rows: Sequence[NumberedRow], spec: FineTuningSpec, *, param: str) -> Sequence[NumberedRow]:
    """`param` is the field of the job that names the rows' file; those of others are only measured on, as they are."""
    chosen = getattr(spec.hyperparameters, "augmentation", "auto")
    return with_counterfactuals(rows) if chosen == "counterfactual" and param == TRAINING else rows
