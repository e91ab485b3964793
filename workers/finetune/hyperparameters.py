"""What "auto" means: hyperparameters by the size of the data."""

import math
from dataclasses import dataclass

from contracts.jobs import LoraHyperparameters

LEARNING_RATE = 1e-3
RANK = 16
EXAMPLES_SEEN = 180
"""Few examples are seen often and many seldom, so that a job's length grows with its data, but slowly at first."""
MOST_EPOCHS = 10
LARGE_BATCH = 16
SMALL_BATCH = 4


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    epochs: int
    batch_size: int
    learning_rate: float
    rank: int
    total_steps: int

    @property
    def alpha(self) -> int:
        """The adapter's scale is alpha / rank; a fixed ratio lets the learning rate hold for every rank."""
        return 2 * self.rank


def plan_training(wanted: LoraHyperparameters, *, examples: int) -> TrainingPlan:
    epochs = _auto_epochs(examples) if wanted.n_epochs == "auto" else wanted.n_epochs
    batch_size = _auto_batch_size(examples) if wanted.batch_size == "auto" else wanted.batch_size
    multiplier = 1.0 if wanted.learning_rate_multiplier == "auto" else wanted.learning_rate_multiplier
    rank = RANK if wanted.lora_rank == "auto" else wanted.lora_rank
    return TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE * multiplier,
        rank=rank,
        total_steps=epochs * math.ceil(examples / batch_size),
    )


def _auto_epochs(examples: int) -> int:
    return min(MOST_EPOCHS, max(1, round(EXAMPLES_SEEN / examples)))


def _auto_batch_size(examples: int) -> int:
    return SMALL_BATCH if examples < 1000 else LARGE_BATCH
