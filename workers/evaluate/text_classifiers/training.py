"""One logistic regression for each label, over the n-grams that the gateway will see, in 8 bits a weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from contracts.text_classifiers import TextClassifiers
from contracts.text_classifiers.features import BUCKETS, ngram_buckets, windows
from workers.evaluate.text_classifiers.corpus import LABELS, Text

FOLDS = 5
_STRENGTH = 20.0
"""Inverse of the regularisation; a quarter of it does as well."""
_FEWEST_WINDOWS = 3
"""An n-gram that fewer windows hold weighs nothing: it could only be learned by heart."""


@dataclass(frozen=True, slots=True)
class Windows:
    """`features`: (windows, BUCKETS), each row of length 1; `texts`: the place of each window's text."""

    features: csr_matrix
    texts: NDArray[np.int64]


def windows_of(texts: Sequence[Text]) -> Windows:
    columns, values, ends, places = [], [], [0], []
    for place, text in enumerate(texts):
        for window in windows(text.text):
            buckets = ngram_buckets(window)
            columns.append(buckets)
            values.append(np.full(len(buckets), 1 / np.sqrt(max(1, len(buckets)))))
            ends.append(ends[-1] + len(buckets))
            places.append(place)
    features = csr_matrix((np.concatenate(values), np.concatenate(columns), ends), shape=(len(places), BUCKETS))
    return Windows(features, np.array(places))


def train(texts: Sequence[Text], *, folds: Sequence[int]) -> TextClassifiers:
    """Each label's bias is moved so that a score of 0.5 is where F1 was best on texts of folds not trained on."""
    seen = windows_of(texts)
    common = np.asarray((seen.features > 0).sum(axis=0)).ravel() >= _FEWEST_WINDOWS
    fold_of = np.array(folds)
    weights, scales, biases = [], [], []
    for label in LABELS:
        judged = np.array([label in text.labels for text in texts])
        truth = np.array([text.labels.get(label, False) for text in texts])
        logits = np.full(len(texts), -np.inf)
        for fold in range(FOLDS):
            fitted = _fit(seen, judged & (fold_of != fold), truth, common)
            tested = (judged & (fold_of == fold))[seen.texts]
            np.maximum.at(logits, seen.texts[tested], seen.features[tested] @ fitted[0] + fitted[1])
        weight, bias = _fit(seen, judged, truth, common)
        scale = np.abs(weight).max() / 127
        weights.append(np.round(weight / scale).astype(np.int8))
        scales.append(scale)
        biases.append(bias - _best_threshold(logits[judged], truth[judged]))
    return TextClassifiers(LABELS, np.stack(weights, axis=1), np.array(scales), np.array(biases))


def _fit(
    seen: Windows, chosen: NDArray[np.bool_], truth: NDArray[np.bool_], common: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Windows of one text share its weight of 1; both answers weigh alike to a power of a half."""
    from sklearn.linear_model import LogisticRegression

    rows = np.flatnonzero(chosen[seen.texts])
    answers = truth[seen.texts[rows]]
    shares = 1 / np.bincount(seen.texts, minlength=len(truth))[seen.texts[rows]]
    positive = max(1.0, shares[answers].sum())
    shares[answers] *= np.sqrt(shares[~answers].sum() / positive)
    columns = np.flatnonzero(common)
    regression = LogisticRegression(C=_STRENGTH, solver="liblinear", random_state=0)
    regression.fit(seen.features[rows][:, columns], answers, sample_weight=shares)
    weights = np.zeros(BUCKETS)
    weights[columns] = regression.coef_[0]
    return weights, float(regression.intercept_[0])


def _best_threshold(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Half way between the two logits about the best F1."""
    order = np.argsort(-logits, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    best = int(np.argmax(f1))
    return float((logits[order[best]] + logits[order[min(best + 1, len(order) - 1)]]) / 2)


def save(classifiers: TextClassifiers, path: Path) -> None:
    np.savez_compressed(
        path,
        labels=np.array(classifiers.labels),
        weights=classifiers.weights,
        scales=classifiers.scales,
        biases=classifiers.biases,
    )
