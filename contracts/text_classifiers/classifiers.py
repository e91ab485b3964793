"""The trained classifiers: read once, then asked by any thread."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from contracts.text_classifiers.features import ngram_buckets, windows
from contracts.text_classifiers.labels import INJECTION, MODERATION_CATEGORIES, ModerationCategory

WEIGHTS = Path(__file__).with_name("weights.npz")


@dataclass(frozen=True, slots=True)
class TextClassifiers:
    """Scores of 0 to 1 for a text, English as far as it was trained; nothing is fetched and no model is asked.

    A long text is as bad as its worst window of 480 characters. It costs 0.4 ms for 1,000 characters and holds the
    interpreter's lock: callers bound what they pass, and an event loop hands long texts to a thread. Raises nothing for
    any text, the empty one included.

    `labels` has a column of each array for every label; `weights` is int8 of (BUCKETS, labels), times `scales`.
    """

    labels: tuple[str, ...]
    weights: NDArray[np.int8]
    scales: NDArray[np.float64]
    biases: NDArray[np.float64]

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Self:
        """From the file that ships with the package: about 10 ms and 1 MB. Load once for a process."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(tuple(arrays["labels"].tolist()), arrays["weights"], arrays["scales"], arrays["biases"])

    def moderation(self, text: str) -> dict[ModerationCategory, float]:
        """A score for each of OpenAI's categories; 0 for those that are not in JUDGED_CATEGORIES.

        `MODERATION_THRESHOLDS` says from which score on a category holds.
        """
        scores = self._scores(text)
        return {category: scores.get(category, 0.0) for category in MODERATION_CATEGORIES}

    def injection(self, text: str) -> float:
        """How much the text reads like a jailbreak or an instruction to disregard instructions.

        `INJECTION_THRESHOLD` is where precision and recall are stated; a policy may choose another.
        """
        return self._scores(text)[INJECTION]

    def _scores(self, text: str) -> dict[str, float]:
        highest = np.max([self.logits(ngram_buckets(window)) for window in windows(text)], axis=0)
        return dict(zip(self.labels, (1 / (1 + np.exp(-highest))).tolist(), strict=True))

    def logits(self, buckets: NDArray[np.int32]) -> NDArray[np.float64]:
        """Of one window, a value for each label."""
        summed: NDArray[np.int64] = self.weights[buckets].sum(axis=0, dtype=np.int64)
        logits: NDArray[np.float64] = summed * self.scales / math.sqrt(max(1, len(buckets))) + self.biases
        return logits
