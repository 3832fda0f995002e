"""Metrics of a ranking (NDCG, precision, reciprocal rank), and weights chosen by them.

The relevance grade of a listing is 2 if its category path equals that of the query, 1 if only the main category does,
else 0. Everything here is NumPy on plain arrays.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from marketplace.listings import main_of

WEIGHT_STEPS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # in ascending order
WEIGHT_ROUNDS = 2


def relevance_grades(query_paths: Sequence[str], corpus_paths: Sequence[str]) -> np.ndarray:
    """Grades (queries, corpus) int8: 2 for the same category path, 1 for the same main category, else 0."""
    query_mains, corpus_mains = ([main_of(path) for path in paths] for paths in (query_paths, corpus_paths))
    return _equal(query_paths, corpus_paths).astype(np.int8) + _equal(query_mains, corpus_mains)


def _equal(queries: Sequence[str], corpus: Sequence[str]) -> np.ndarray:
    """Which texts are equal, (queries, corpus) bool; numbers instead of texts are compared, which is faster."""
    codes = np.unique(np.array([*queries, *corpus], str), return_inverse=True)[1]
    return codes[: len(queries), None] == codes[None, len(queries) :]


def best_columns(scores: np.ndarray, top: int) -> np.ndarray:
    """Columns of the `top` greatest scores of each row, best first; equal scores keep the order of the columns.

    scores (queries, corpus) float -> (queries, min(top, corpus)) int64.
    """
    top = min(top, scores.shape[1])
    if top == scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")
    threshold = -np.partition(-scores, top - 1, axis=1)[:, top - 1 : top]
    columns = np.empty((len(scores), top), dtype=np.int64)
    for row in range(len(scores)):
        candidates = np.flatnonzero(scores[row] >= threshold[row])
        order = np.argsort(-scores[row, candidates], kind="stable")[:top]
        columns[row] = candidates[order]
    return columns


def ndcg(ranked_grades: np.ndarray, all_grades: np.ndarray, top: int = 10) -> np.ndarray:
    """Normalised discounted cumulative gain (queries,) with gain = grade and discount 1 / log2(rank + 1).

    ranked_grades (queries, at least top) are the grades in ranked order; all_grades (queries, corpus), each 0, 1 or 2,
    give the ideal list. A query without any relevant listing in the corpus scores 0. Equal to the mean terms of
    `sklearn.metrics.ndcg_score(ignore_ties=True)`, which gives no value for each query.
    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    discount = 1 / np.log2(np.arange(2, top + 2))
    ranked = np.asarray(ranked_grades, dtype=float)[:, :top]
    gain = ranked @ discount[: ranked.shape[1]]
    twos, ones = ((np.asarray(all_grades) == grade).sum(axis=1, keepdims=True) for grade in (2, 1))
    places = np.arange(top)[None, :]
    ideal_gain = (1.0 * (places < twos) + (places < twos + ones)) @ discount
    return np.divide(gain, ideal_gain, out=np.zeros(len(ranked)), where=ideal_gain > 0)


def ranking_metrics(scores: np.ndarray, grades: np.ndarray, top: int = 10) -> dict[str, np.ndarray]:
    """Metrics {"ndcg", "precision", "mrr"} (queries,) of the first `top`, from scores and grades (queries, corpus).

    For precision and reciprocal rank a listing of the same main category is relevant. Without one the reciprocal rank
    is 0; places that stay empty lower the precision.
    """
    ranked = np.take_along_axis(grades, best_columns(scores, top), axis=1)
    relevant = ranked > 0
    return {
        "ndcg": ndcg(ranked, grades, top),
        "precision": relevant.sum(axis=1) / top,
        "mrr": np.where(relevant.any(axis=1), 1 / (relevant.argmax(axis=1) + 1), 0.0),
    }


def choose_weights(
    similarities: Mapping[str, np.ndarray], grades: np.ndarray, minimum: Mapping[str, float]
) -> dict[str, float]:
    """Weights of the blocks, summing to 1, with the best mean NDCG@10 by coordinate ascent; equal without queries.

    similarities maps a block to cosines (queries, corpus), grades is (queries, corpus), `minimum` gives the smallest
    share of a block in the sum. Each of WEIGHT_STEPS is tried for one block at a time; of equal scores the smaller
    weight wins.
    """

    def mean_ndcg(weights: Mapping[str, float]) -> float:
        terms = (np.float32(weights[name]) * similarities[name] for name in similarities)
        scores = sum(terms, start=np.zeros(grades.shape, np.float32))
        return float(ranking_metrics(scores, grades)["ndcg"].mean())

    weights = dict.fromkeys(similarities, 1.0)
    if not len(grades):
        return {name: 1 / len(weights) for name in weights}
    best = mean_ndcg(weights)
    for name in [*similarities] * WEIGHT_ROUNDS:
        for step in WEIGHT_STEPS:
            candidate = weights | {name: step}
            total = sum(candidate.values())
            allowed = total > 0 and all(candidate.get(block, total) >= minimum[block] * total for block in minimum)
            if allowed and (value := mean_ndcg(candidate)) > best + 1e-9:
                best, weights = value, candidate
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
