"""How well a classifier labels texts, and whether its probabilities mean what they say (by scikit-learn)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

BINS = 10


@dataclass(frozen=True, slots=True)
class LabelReport:
    """`confusion` is right label → given label → rows. `per_label` has precision, recall, F1 and rows of each."""

    accuracy: float
    macro_f1: float
    calibration_error: float
    per_label: dict[str, dict[str, float]]
    confusion: dict[str, dict[str, int]]
    reliability: tuple[dict[str, float], ...]


def label_report(right: Sequence[str], given: Sequence[str], confidence: Sequence[float]) -> LabelReport:
    """`confidence` is the probability, 0 to 1, that the classifier gave to the label it chose."""
    labels = sorted({*right, *given})
    counts = confusion_matrix(right, given, labels=labels)
    precision, recall, f1, rows = precision_recall_fscore_support(right, given, labels=labels, zero_division=0)
    error, reliability = calibration([a == b for a, b in zip(right, given, strict=True)], confidence)
    return LabelReport(
        accuracy=float(accuracy_score(right, given)),
        macro_f1=macro_f1(right, given),
        calibration_error=error,
        per_label={
            label: {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
            for label, p, r, f, n in zip(labels, precision, recall, f1, rows, strict=True)
        },
        confusion={
            label: {other: int(count) for other, count in zip(labels, row, strict=True)}
            for label, row in zip(labels, counts, strict=True)
        },
        reliability=reliability,
    )


def macro_f1(right: Sequence[str], given: Sequence[str]) -> float:
    """The mean over the labels that are right somewhere or were given somewhere."""
    return float(f1_score(right, given, average="macro", zero_division=0))


def calibration(correct: Sequence[bool], confidence: Sequence[float]) -> tuple[float, tuple[dict[str, float], ...]]:
    """Expected calibration error over ten bins of equal width (Naeini et al., 2015), and the bins that have rows.

    0: of the rows whose confidence is about 0.8, eight of ten are right.
    """
    hits, told = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    bin_of = np.minimum((told * BINS).astype(int), BINS - 1)
    bins: list[dict[str, Any]] = []
    for place in range(BINS):
        chosen = bin_of == place
        if chosen.any():
            found = {"rows": int(chosen.sum()), "confidence": told[chosen].mean(), "accuracy": hits[chosen].mean()}
            bins.append({name: float(value) for name, value in found.items()})
    error = sum(each["rows"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / len(hits)
    return float(error), tuple(bins)
