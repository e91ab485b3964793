"""Percentiles and rates of a level, as they are printed and written as JSON."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from cli.benchmark.load import Answer, Level

PERCENTILES = (50, 90, 99)


def answered(level: Level) -> list[Answer]:
    return [answer for answer in level.answers if answer.failure is None]


def times_to_first_token_s(level: Level) -> list[float]:
    return [answer.token_times_s[0] - answer.asked_s for answer in answered(level)]


def times_between_tokens_s(level: Level) -> list[float]:
    """The gaps between pieces of a stream. Where a server sends several tokens at once they are fewer and longer."""
    times = [answer.token_times_s for answer in answered(level)]
    return [later - earlier for of_one in times for earlier, later in pairwise(of_one)]


def summarise(level: Level) -> dict[str, Any]:
    """Latencies in seconds. Rates are over the level's whole duration and count answers without a failure only."""
    good = answered(level)
    tokens = sum(answer.tokens for answer in good)
    return {
        "concurrency": level.concurrency,
        "requests": len(level.answers),
        "failures": len(level.answers) - len(good),
        "failure_reasons": dict(Counter(answer.failure for answer in level.answers if answer.failure)),
        "duration_s": _rounded(level.duration_s),
        "requests_per_s": _rounded(len(good) / level.duration_s),
        "output_tokens": tokens,
        "output_tokens_per_s": _rounded(tokens / level.duration_s),
        "time_to_first_token_s": _percentiles(times_to_first_token_s(level)),
        "time_between_tokens_s": _percentiles(times_between_tokens_s(level)),
        "latency_s": _percentiles([answer.ended_s - answer.asked_s for answer in good]),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": _rounded(percentile(values, percent)) for percent in PERCENTILES} if values else {}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
