"""How alike two texts are, from 0 to 1, by what they share; contracts/eval_criteria.py says what a metric counts."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

Similarity = Callable[[str, str], float]
_WORDS = re.compile(r"\w+|[^\w\s]")


class _NoSynonyms:
    """Stands where METEOR looks for synonyms, of which no package has a list that may be shipped."""

    def synsets(self, *_: Any, **__: Any) -> list[Any]:
        return []


def by_shared_parts(metric: str) -> Similarity:
    """Of an answer and its reference. Raises KeyError for a metric that compares embeddings."""
    return _METRICS[metric]


def chrf(answer: str, reference: str) -> float:
    """Any script; no tokeniser."""
    return float(_chrf().sentence_score(answer, [reference]).score) / 100


def bleu(answer: str, reference: str) -> float:
    return float(_bleu().sentence_score(answer, [reference]).score) / 100


def gleu(answer: str, reference: str) -> float:
    said, wanted = _words(answer), _words(reference)
    return float(sentence_gleu([wanted], said)) if said and wanted else float(said == wanted)


def meteor(answer: str, reference: str) -> float:
    said, wanted = _words(answer), _words(reference)
    if not said or not wanted:
        return float(said == wanted)
    return float(single_meteor_score(wanted, said, wordnet=_NoSynonyms()))


def rouge(kind: str) -> Similarity:
    """The F-measure of `rouge1` … `rouge5` or `rougeL`."""

    def score(answer: str, reference: str) -> float:
        return float(_rouge(kind).score(reference, answer)[kind].fmeasure)

    return score


def fuzzy_match(answer: str, reference: str) -> float:
    return fuzz.ratio(answer, reference) / 100


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


@cache
def _chrf() -> CHRF:
    return CHRF()


@cache
def _bleu() -> BLEU:
    return BLEU(effective_order=True)


@cache
def _rouge(kind: str) -> RougeScorer:
    return RougeScorer([kind], use_stemmer=True)


_METRICS: dict[str, Similarity] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "chrf": chrf,
    "meteor": meteor,
    "rouge_l": rouge("rougeL"),
    **{f"rouge_{n}": rouge(f"rouge{n}") for n in range(1, 6)},
}
