"""How long prompts and answers are and when they come, after published traces.

Lengths: log-normal around the medians of Azure's traces of 2023 (Patel et al., 2024, "Splitwise": conversation 1,020
prompt and 129 answer tokens, coding 1,500 and 13). Long prompts with short answers stand for retrieval (RAG) as well.
Arrivals: a Poisson process, or gaps of a Gamma distribution with a coefficient of variation of 2, as burstiness was
modelled by Wang et al., 2024, "BurstGPT". Tails are cut at 8 times the median.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Arrivals = Literal["poisson", "bursty"]
BURSTY_SHAPE = 0.25
"""Of the Gamma distribution: the coefficient of variation is 1 / sqrt(shape)."""
LONGEST = 8
VOCABULARY = (
    "river stone light winter garden paper morning silver engine window travel letter simple market answer number "
    "method forest music bridge water summer doctor planet kitchen story mountain teacher picture village"
)
WORDS = VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens. `sigma` is of the logarithm."""

    prompt_median: float
    answer_median: float
    sigma: float


CHAT = Lengths(prompt_median=1020, answer_median=129, sigma=1.0)
LONG_PROMPT = Lengths(prompt_median=1500, answer_median=13, sigma=1.0)


def tokens(chance: random.Random, median: float, sigma: float, scale: float) -> int:
    return max(1, round(median * scale * min(LONGEST, chance.lognormvariate(0, sigma))))


def gap_s(chance: random.Random, arrivals: Arrivals, per_s: float) -> float:
    """Seconds to the next arrival, 1 / `per_s` in the mean."""
    if arrivals == "poisson":
        return chance.expovariate(per_s)
    return chance.gammavariate(BURSTY_SHAPE, 1 / (per_s * BURSTY_SHAPE))


def text(chance: random.Random, count: int, words: Sequence[str] = WORDS) -> str:
    """About so many tokens: short words have one each."""
    return " ".join(chance.choices(words, k=count))
