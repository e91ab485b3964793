"""What a guardrail did, for the metrics and the log. Never the text that it was about."""

from typing import Literal, NamedTuple

from contracts.guardrails import Stage

Guard = Literal["personal_data", "topic", "injection", "moderation", "schema"]
Action = Literal["masked", "refused", "annotated", "cut"]


class Act(NamedTuple):
    """`detail` is a topic's or category's name, a score, or what was masked and how often."""

    guard: Guard
    stage: Stage
    action: Action
    detail: str = ""
