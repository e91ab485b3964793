"""What the task files call: rows from this folder, and scores that lm-evaluation-harness does not bring."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets

DATA = Path(__file__).parent / "data"


def load(data: str, **_: Any) -> datasets.DatasetDict:
    """`data` names a file. The rows are in memory: nothing is fetched, and no cache is written."""
    splits = {"test": DATA / f"{data}.jsonl", "few_shot": DATA / f"{data}_few_shot.jsonl"}
    return datasets.DatasetDict(
        {name: datasets.Dataset.from_list(_read(path)) for name, path in splits.items() if path.exists()}
    )


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def overlap(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Of an answer with the expected one, as SQuAD counts it (Rajpurkar et al., 2016): exact match, and F1 of words."""
    said, wanted = _words(results[0]), _words(doc["answer"])
    shared = sum((Counter(said) & Counter(wanted)).values())
    f1 = 0.0 if not shared else 2 * shared / (len(said) + len(wanted))
    return {"exact_match": float(said == wanted), "f1": f1}


def _words(text: str) -> list[str]:
    kept = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return [word for word in kept.split() if word not in ("a", "an", "the")]


def rouge(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L of one summary (Lin, 2004)."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = scorer.score(doc["summary"], results[0])
    return {name: score.fmeasure for name, score in scores.items()}
