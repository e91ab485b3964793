"""What "auto" means: hyperparameters by the method and the size of the data."""

import math
from dataclasses import dataclass

from contracts.fine_tuning import Adaptation, Hyperparameters

EXAMPLES_SEEN = 180
"""Few examples are seen often and many seldom, so that a job's length grows with its data, but slowly at first."""
MOST_EPOCHS = 10
LARGE_BATCH = 16
SMALL_BATCH = 4
FEWEST_EPOCHS = {"classification": 3, "token_classification": 3}
"""By method. A new layer has to be learnt from nothing, and encoders are small (Devlin et al., 2019: 2 to 4 epochs)."""
RANK = 16
VIRTUAL_TOKENS = 16

LEARNING_RATES: dict[Adaptation, float] = {
    "lora": 1e-3,
    "rslora": 1e-3,
    "dora": 1e-3,
    "qlora": 1e-3,
    "ia3": 1e-2,
    "prompt": 3e-2,
    "prefix": 1e-2,
    "full": 5e-5,
}
"""For supervised learning; what has few weights needs large steps."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    epochs: int
    batch_size: int
    learning_rate: float
    total_steps: int


def plan_training(
    wanted: Hyperparameters,
    *,
    examples: int,
    learning_rate: float,
    auto_epochs: int | None = None,
    auto_batch: int | None = None,
    fewest_epochs: int = 1,
) -> TrainingPlan:
    """`auto_epochs` and `auto_batch` are of methods for which the size of the data is not the measure."""
    epochs = (
        (auto_epochs or max(fewest_epochs, _epochs_for(examples))) if wanted.n_epochs == "auto" else wanted.n_epochs
    )
    batch_size = (auto_batch or _batch_for(examples)) if wanted.batch_size == "auto" else wanted.batch_size
    multiplier = 1.0 if wanted.learning_rate_multiplier == "auto" else wanted.learning_rate_multiplier
    return TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate * multiplier,
        total_steps=epochs * math.ceil(examples / batch_size),
    )


def _epochs_for(examples: int) -> int:
    return min(MOST_EPOCHS, max(1, round(EXAMPLES_SEEN / examples)))


def _batch_for(examples: int) -> int:
    return SMALL_BATCH if examples < 1000 else LARGE_BATCH
