"""How alike two texts are: chrF (Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015)."""

from collections import Counter

LONGEST = 6
BETA = 2
"""Recall counts so many times as much as precision: what is missing weighs more than what is said beside it."""


def chrf(answer: str, reference: str) -> float:
    """0 where the two share no letter, 1 where they are the same but for spaces. Any script; no tokeniser."""
    said, wanted = "".join(answer.split()), "".join(reference.split())
    scores = [_f_score(_grams(said, n), _grams(wanted, n)) for n in range(1, LONGEST + 1) if len(wanted) >= n]
    return sum(scores) / len(scores) if scores else float(said == wanted)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[at : at + n] for at in range(len(text) - n + 1))


def _f_score(said: Counter[str], wanted: Counter[str]) -> float:
    shared = (said & wanted).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / said.total(), shared / wanted.total()
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
