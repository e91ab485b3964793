"""The labels, and from which score on each is said to hold. docs/moderation.md says how the thresholds were chosen."""

from typing import Literal, get_args

ModerationCategory = Literal[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]
MODERATION_CATEGORIES: tuple[ModerationCategory, ...] = get_args(ModerationCategory)

MODERATION_THRESHOLDS: dict[ModerationCategory, float] = {
    "harassment": 0.5,
    "hate": 0.5,
    "sexual": 0.5,
    "violence": 0.5,
}
JUDGED_CATEGORIES = tuple(MODERATION_THRESHOLDS)

INJECTION = "injection"
INJECTION_THRESHOLD = 0.5
