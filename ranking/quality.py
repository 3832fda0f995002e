"""How good a ranking is: relevance graded by the category path, NDCG, precision, reciprocal rank, block weights.

A listing of the same leaf category as the query is worth 2, one of the same main category 1, any other 0. Everything
here is NumPy on plain arrays.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

PATH_SEPARATOR = " / "


def main_of(path: str) -> str:
    """Main category of a path: the part before the first " / "."""
    return path.split(PATH_SEPARATOR)[0].strip()


def relevance_grades(query_paths: Sequence[str], corpus_paths: Sequence[str]) -> np.ndarray:
    """Grades (queries, corpus) int8: 2 for the same category path, 1 for the same main category, else 0."""
    codes: dict[str, int] = {}
    numbers = [
        np.array([codes.setdefault(name(path), len(codes)) for path in paths], dtype=np.int64)
        for name in (lambda path: "path " + path, lambda path: "main " + main_of(path))
        for paths in (query_paths, corpus_paths)
    ]
    query_leaf, corpus_leaf, query_main, corpus_main = numbers
    same_leaf = query_leaf[:, None] == corpus_leaf[None, :]
    same_main = query_main[:, None] == corpus_main[None, :]
    return same_leaf.astype(np.int8) + same_main.astype(np.int8)


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
    """Normalised discounted cumulative gain of each query, gain = grade, discount 1 / log2(rank + 1).

    ranked_grades (queries, at least top) are the grades in ranked order; all_grades (queries, corpus) those of the
    whole corpus, out of which the ideal list is made. A query that nothing in the corpus suits scores 0.
    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    discount = 1 / np.log2(np.arange(2, top + 2))
    ranked = np.asarray(ranked_grades, dtype=float)[:, :top]
    gained = ranked @ discount[: ranked.shape[1]]
    counts = [(np.asarray(all_grades) == grade).sum(axis=1, keepdims=True) for grade in (2, 1)]
    places = np.arange(top)[None, :]
    ideal_grades = np.where(places < counts[0], 2.0, np.where(places < counts[0] + counts[1], 1.0, 0.0))
    ideal = ideal_grades @ discount
    return np.divide(gained, ideal, out=np.zeros(len(ranked)), where=ideal > 0)


def precision(ranked_grades: np.ndarray, top: int = 10) -> np.ndarray:
    """Share of the first `top` places (empty ones count as misses) with a listing of the same main category."""
    return (np.asarray(ranked_grades)[:, :top] > 0).sum(axis=1) / top


def reciprocal_rank(ranked_grades: np.ndarray, least_grade: int = 1) -> np.ndarray:
    """1 / rank of the first listing of at least `least_grade`, 0 where none is in the list."""
    suits = np.asarray(ranked_grades) >= least_grade
    return np.where(suits.any(axis=1), 1 / (suits.argmax(axis=1) + 1), 0.0)


def ranking_metrics(scores: np.ndarray, grades: np.ndarray, top: int = 10) -> dict[str, np.ndarray]:
    """Metrics of each query, {"ndcg", "precision", "mrr", "mrr_leaf"}, out of scores and grades (queries, corpus).

    The reciprocal rank looks at the first `top` places, as a person does.
    """
    ranked = np.take_along_axis(grades, best_columns(scores, top), axis=1)
    return {
        "ndcg": ndcg(ranked, grades, top),
        "precision": precision(ranked, top),
        "mrr": reciprocal_rank(ranked),
        "mrr_leaf": reciprocal_rank(ranked, least_grade=2),
    }


def choose_weights(
    similarities: Mapping[str, np.ndarray],
    grades: np.ndarray,
    steps: Sequence[float] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    rounds: int = 2,
    least: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], float]:
    """Weights of the blocks (they sum to 1) that give the best mean NDCG@10 on validation queries, and that NDCG.

    similarities maps a block to the cosines (queries, corpus); one block's weight at a time is tried at each of
    `steps`, beginning with equal weights, for `rounds` rounds. A lighter weight wins where two score the same; below
    its share in `least` no block goes.
    """
    names = list(similarities)
    weights = dict.fromkeys(names, 1.0)

    def score(candidate: Mapping[str, float]) -> float:
        total = sum(np.float32(candidate[name]) * similarities[name] for name in names)
        return float(ndcg(np.take_along_axis(grades, best_columns(total, 10), axis=1), grades).mean())

    def too_light(candidate: Mapping[str, float]) -> bool:
        whole = sum(candidate.values())
        return whole == 0 or any(candidate[name] < share * whole for name, share in (least or {}).items())

    best = score(weights)
    for _, name in itertools.product(range(rounds), names):
        for step in sorted(steps):
            candidate = weights | {name: float(step)}
            if too_light(candidate) or candidate == weights:
                continue
            value = score(candidate)
            if value > best + 1e-9:
                best, weights = value, candidate
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}, best
