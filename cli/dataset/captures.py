"""Captured answers from the gateway, and which of them teach something."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from openai import OpenAI

PAGE = 500
LEARNABLE_ROLES = frozenset({"system", "user", "assistant"})


class CapturedTurn(msgspec.Struct, frozen=True):
    role: str
    content: str


class Judgement(msgspec.Struct, frozen=True):
    rating: str | None = None
    correction: str | None = None


class CapturedAnswer(msgspec.Struct, frozen=True):
    """What is needed of `GET /v1/flywheel/captures`."""

    id: str
    model: str
    messages: list[CapturedTurn]
    answer: str
    finish_reason: str | None = None
    feedback: Judgement | None = None

    @property
    def correction(self) -> str | None:
        return None if self.feedback is None else self.feedback.correction

    @property
    def rating(self) -> str | None:
        return None if self.feedback is None else self.feedback.rating

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        return tuple((turn.role, turn.content) for turn in self.messages)


class _Page(msgspec.Struct, frozen=True):
    data: list[CapturedAnswer]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The answers that teach, corrected ones first, and how many were left out for what reason."""

    answers: list[CapturedAnswer]
    left_out: Counter[str]


def fetch_captures(client: "OpenAI", **wanted: Any) -> Iterator[CapturedAnswer]:
    """All that the key's tenant has and that fit, newest first, a page at a time."""
    query = {name: value for name, value in wanted.items() if value is not None} | {"limit": PAGE}
    while True:
        page = msgspec.convert(client.get("/flywheel/captures", cast_to=object, options={"params": query}), _Page)
        yield from page.data
        if not page.has_more:
            return
        query["after"] = page.data[-1].id


def choose(captures: list[CapturedAnswer], *, rating: str | None, preference: bool) -> Selection:
    """Leaves out what cannot be learnt from, and answers that people said were bad without a better one."""
    chosen, left_out = [], Counter[str]()
    corrected = {capture.asked for capture in captures if capture.correction is not None}
    for capture in captures:
        reason = _why_not(capture, rating=rating, preference=preference)
        if reason is None and capture.correction is None and capture.asked in corrected:
            reason = "the same question was corrected elsewhere"
        if reason is None:
            chosen.append(capture)
        else:
            left_out[reason] += 1
    return Selection(sorted(chosen, key=lambda capture: capture.correction is None), left_out)


def _why_not(capture: CapturedAnswer, *, rating: str | None, preference: bool) -> str | None:
    if any(turn.role not in LEARNABLE_ROLES or not turn.content.strip() for turn in capture.messages):
        return "tools, pictures or empty turns"
    if not capture.messages or capture.messages[-1].role != "user":
        return "the last turn is not the user's"
    if any(turn.role == "system" for turn in capture.messages[1:]):
        return "a system turn that does not come first"
    if preference and (capture.correction is None or capture.correction.strip() == capture.answer.strip()):
        return "no correction to prefer"
    if capture.correction is not None:
        return None
    if capture.rating == "down" and rating != "down":
        return "rated down and not corrected"
    return "the answer was cut at its length" if capture.finish_reason == "length" else None
