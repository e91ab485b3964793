"""How well embeddings find the passage that answers a query (by ir-measures, which asks trec_eval)."""

from collections import defaultdict
from collections.abc import Sequence

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

MEASURES = (nDCG @ 10, RR @ 10, R @ 1, R @ 5, R @ 10)
NAMES = {
    nDCG @ 10: "ndcg_at_10",
    RR @ 10: "mrr_at_10",
    R @ 1: "recall_at_1",
    R @ 5: "recall_at_5",
    R @ 10: "recall_at_10",
}


def rank(queries: Sequence[Sequence[float]], passages: Sequence[Sequence[float]]) -> np.ndarray:
    """Cosine similarity of each query with each passage, queries in rows."""
    first, second = (_unit(np.asarray(each, dtype=np.float64)) for each in (queries, passages))
    return first @ second.T


def retrieval_scores(similarity: np.ndarray, right: Sequence[int]) -> dict[str, list[float]]:
    """By measure, its value for each query. `right` names the one passage that answers a query, by its column."""
    relevant = [ir_measures.Qrel(str(query), str(passage), 1) for query, passage in enumerate(right)]
    ranked = [
        ir_measures.ScoredDoc(str(query), str(passage), float(value))
        for query, row in enumerate(similarity)
        for passage, value in enumerate(row)
    ]
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for metric in ir_measures.iter_calc(MEASURES, relevant, ranked):
        found[NAMES[metric.measure]][int(metric.query_id)] = metric.value
    return {name: [values[query] for query in range(len(right))] for name, values in found.items()}


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)
