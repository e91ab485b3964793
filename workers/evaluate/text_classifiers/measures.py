"""How often the classifiers are right about texts that they were not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.text_classifiers import INJECTION, INJECTION_THRESHOLD, MODERATION_THRESHOLDS, TextClassifiers
from workers.evaluate.text_classifiers.corpus import LABELS, Text

_RESAMPLES = 1_000
THRESHOLDS = {**MODERATION_THRESHOLDS, INJECTION: INJECTION_THRESHOLD}


@dataclass(frozen=True, slots=True)
class Estimate:
    """With its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class LabelMeasures:
    positives: int
    texts: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    average_precision: Estimate


@dataclass(frozen=True, slots=True)
class Scored:
    """`scores` of (texts, labels)."""

    texts: Sequence[Text]
    scores: NDArray[np.float64]

    @classmethod
    def by(cls, classifiers: TextClassifiers, texts: Sequence[Text]) -> "Scored":
        scores = []
        for text in texts:
            found = {**classifiers.moderation(text.text), INJECTION: classifiers.injection(text.text)}
            scores.append([found[label] for label in LABELS])
        return cls(texts, np.array(scores))

    def of(self, label: str, chosen: Callable[[Text], bool]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """The truth and the scores of the chosen texts for which somebody judged the label."""
        places = [place for place, text in enumerate(self.texts) if label in text.labels and chosen(text)]
        truth = np.array([self.texts[place].labels[label] for place in places], dtype=bool)
        return truth, self.scores[places, LABELS.index(label)]


def measure(scored: Scored, label: str, chosen: Callable[[Text], bool] = lambda _text: True) -> LabelMeasures:
    """Intervals by the bootstrap over texts (percentiles)."""
    from sklearn.metrics import average_precision_score

    truth, scores = scored.of(label, chosen)
    flagged = scores >= THRESHOLDS[label]
    chance = np.random.default_rng(0)
    draws = chance.integers(len(truth), size=(_RESAMPLES, len(truth)))

    def estimate(figure: Callable[[NDArray[np.int64]], float]) -> Estimate:
        values = [figure(draw) for draw in draws]
        low, high = np.nanpercentile(values, [2.5, 97.5])
        return Estimate(figure(np.arange(len(truth))), float(low), float(high))

    def ratio(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> Callable[[NDArray[np.int64]], float]:
        return lambda draw: float(hits[draw].sum() / of[draw].sum()) if of[draw].any() else float("nan")

    both = truth & flagged

    def f1(draw: NDArray[np.int64]) -> float:
        return float(2 * both[draw].sum() / max(1, truth[draw].sum() + flagged[draw].sum()))

    return LabelMeasures(
        positives=int(truth.sum()),
        texts=len(truth),
        precision=estimate(ratio(both, flagged)),
        recall=estimate(ratio(both, truth)),
        f1=estimate(f1),
        average_precision=estimate(lambda draw: float(average_precision_score(truth[draw], scores[draw]))),
    )


def false_alarms(scored: Scored, label: str, chosen: Callable[[Text], bool]) -> tuple[int, int]:
    """How many of the chosen harmless texts are said to be of the label, and of how many."""
    truth, scores = scored.of(label, chosen)
    return int((scores[~truth] >= THRESHOLDS[label]).sum()), int((~truth).sum())
