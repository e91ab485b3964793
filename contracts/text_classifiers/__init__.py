"""Judges a text on this machine, in well under a millisecond: moderation by category, and instructions smuggled in.

Linear classifiers over hashed n-grams of characters and words, trained by `workers.evaluate.text_classifiers` on data
that ships in packages. docs/moderation.md holds what they were trained on, how often they are right, and where they
are bad.
"""

from contracts.text_classifiers.classifiers import TextClassifiers
from contracts.text_classifiers.labels import (
    INJECTION,
    INJECTION_THRESHOLD,
    JUDGED_CATEGORIES,
    MODERATION_CATEGORIES,
    MODERATION_THRESHOLDS,
    ModerationCategory,
)

__all__ = [
    "INJECTION",
    "INJECTION_THRESHOLD",
    "JUDGED_CATEGORIES",
    "MODERATION_CATEGORIES",
    "MODERATION_THRESHOLDS",
    "ModerationCategory",
    "TextClassifiers",
]
