"""What a training will cost and how long it will take, before it starts."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from contracts.fine_tuning import FineTuningSpec
from contracts.models import ModelCard
from workers.finetune.hyperparameters import FEWEST_EPOCHS, plan_training

TOKENS_PER_SECOND = "trained_tokens_per_second"
"""The metric of a model's card that tells how fast it was trained, loading and measuring included."""
LATEST = 3
BY_SIZE = frozenset({"supervised", "dpo", "classification", "token_classification"})
"""Methods whose epochs follow from the number of rows where they are left to us."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """None where nothing is known: a base without a price, a base from which nothing was made yet."""

    epochs: int
    trained_tokens: int
    cost: float | None
    seconds: float | None

    def in_words(self) -> str:
        cost = "" if self.cost is None else f", which costs {self.cost:.6g} by the model's price"
        took = "" if self.seconds is None else f", in about {self.seconds:.0f} s as fast as jobs went before"
        return f"About {self.trained_tokens} tokens will be trained in {self.epochs} epochs{cost}{took}."

    def figures(self) -> dict[str, float]:
        figures = {"estimated_tokens": float(self.trained_tokens)}
        if self.cost is not None:
            figures["estimated_cost"] = self.cost
        if self.seconds is not None:
            figures["estimated_seconds"] = round(self.seconds, 1)
        return figures

    def finish_at(self) -> int | None:
        return None if self.seconds is None else int(time.time() + self.seconds) + 1


def estimate(
    spec: FineTuningSpec, base: ModelCard, *, rows: int, tokens: int, made_before: Iterable[ModelCard]
) -> Estimate | None:
    """By the base's `input_price`, and the speed of the last models that were made from it.

    None for a method whose length does not follow from its rows.
    """
    if spec.method not in BY_SIZE and spec.hyperparameters.n_epochs == "auto":
        return None
    fewest = FEWEST_EPOCHS.get(spec.method, 1)
    epochs = plan_training(spec.hyperparameters, examples=rows, learning_rate=0.0, fewest_epochs=fewest).epochs
    trained = epochs * tokens
    latest = sorted(made_before, key=lambda card: card.created_at, reverse=True)
    speeds = [card.metrics[TOKENS_PER_SECOND] for card in latest if card.metrics.get(TOKENS_PER_SECOND)][:LATEST]
    return Estimate(
        epochs=epochs,
        trained_tokens=trained,
        cost=None if base.input_price is None else trained * base.input_price / 1e6,
        seconds=trained / median(speeds) if speeds else None,
    )
