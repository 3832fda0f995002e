"""Metrics with bootstrap intervals, calibration, and the rows that report a model of a listing's category."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from marketplace.data_folder import UserError
from marketplace.listings import SPLITS, rows_of_split

RESAMPLES = 1000


def bootstrap_interval(
    metric_function: Callable[..., float], *arrays: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95% percentile bootstrap interval of `metric_function(*arrays)`, the arrays resampled by row (N, ...).

    With `groups` (N,), whole groups are drawn: the photos of one product are not independent of each other.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    arrays = tuple(np.asarray(array) for array in arrays)
    rows = np.arange(len(arrays[0]))
    codes = rows if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = codes.max() + 1
    generator = np.random.default_rng(seed)
    values = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        times = np.bincount(generator.integers(count, size=count), minlength=count)  # how often each group is drawn
        drawn = np.repeat(rows, times[codes])
        values[index] = metric_function(*(array[drawn] for array in arrays))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap(
    correct_a: np.ndarray, correct_b: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Difference of two models' mean scores on the same rows: `{"difference": a - b, "interval": (low, high)}`.

    `correct_a`, `correct_b` (N,): any score of each row, such as 1 for right and 0 for wrong. The difference is
    significant at the 5% level when the interval does not contain 0.
    """
    difference = np.asarray(correct_a, dtype=float) - np.asarray(correct_b, dtype=float)
    interval = bootstrap_interval(np.mean, difference, groups=groups, seed=seed)
    return {"difference": float(difference.mean()), "interval": interval}


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """`f1_score(labels, predictions, average="macro")` of integers (N,), for bootstraps.

    1,000 resamples of 671 rows take 0.05 s, with `f1_score` 1.7 s; the notebooks compute 23 such intervals.
    """
    classes = 1 + max(labels.max(), predictions.max())
    right = np.bincount(labels[labels == predictions], minlength=classes)
    totals = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    return float(np.mean(2 * right[totals > 0] / totals[totals > 0]))


def classification_metrics(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Accuracy and macro-F1 of integer `labels` and `predictions` (N,), each with its 95% bootstrap interval.

    Macro-F1 is the mean over the classes that occur among labels or predictions.
    """
    return {
        "accuracy": accuracy_score(labels, predictions),
        "accuracy_interval": bootstrap_interval(np.mean, labels == predictions, groups=groups, seed=seed),
        "macro_f1": f1_score(labels, predictions, average="macro"),
        "macro_f1_interval": bootstrap_interval(macro_f1, labels, predictions, groups=groups, seed=seed),
    }


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """`r2_score(true, predicted)` of two arrays (N,), for bootstraps.

    1,000 resamples of 671 rows take 0.04 s, with `r2_score` 0.3 s; the price notebook computes about 50 of them.
    """
    error, variance = np.mean((true - predicted) ** 2), np.var(true)
    return float(1 - error / variance) if variance > 0 else float(error == 0)


def log_r_squared(prices: np.ndarray, predicted: np.ndarray) -> float:
    """R2 of log prices; a prediction below £1 counts as £1, since a linear model may predict less than £0."""
    return r_squared(np.log(prices), np.log(np.maximum(predicted, 1)))


PRICE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "R2, log pounds": log_r_squared,
    "R2, pounds": r_squared,
    "mean absolute error, pounds": lambda prices, predicted: float(np.mean(np.abs(prices - predicted))),
    "median absolute error, pounds": lambda prices, predicted: float(np.median(np.abs(prices - predicted))),
}


def price_metrics(
    prices: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Each of `PRICE_METRICS` of `prices` and `predicted` (N,), both in pounds, with its 95% bootstrap interval."""
    return {
        name: (metric(prices, predicted), bootstrap_interval(metric, prices, predicted, groups=groups, seed=seed))
        for name, metric in PRICE_METRICS.items()
    }


def confident_mistakes(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows that are predicted wrongly, one of each group (the photos of a listing), int64.

    Sorted by margin between predicted and true class, largest first. `scores` (N, C); `labels`, `groups` (N,).
    """
    margin = scores.max(axis=1) - scores[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    wrong = wrong[np.argsort(-margin[wrong], kind="stable")]
    first_of_group = np.unique(np.asarray(groups)[wrong], return_index=True)[1]
    return wrong[np.sort(first_of_group)][:count]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, weighted by bin size. Source: Guo et al., 2017.

    `probabilities` (N, C), rows summing to 1; `labels` (N,) integers.
    """
    confidence = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    return float(np.abs(np.bincount((confidence * bins).astype(int).clip(max=bins - 1), gaps)).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.05 to 20 by which logits (N, C) are divided for the best likelihood. Source: Guo et al."""

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature), axis=1)
        return log_loss(labels, probabilities, labels=range(logits.shape[1]))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def check_splits(
    rows: pd.DataFrame, what: str = "listings", splits: Sequence[str] = SPLITS, categories: int = 2
) -> None:
    """Raises UserError when one of `splits` has no row of the products table `rows`, one for each of the "listings" or
    "photos", when train has one only, and when those of train are of fewer main `categories`."""
    for split in splits:
        count, minimum = int((rows["split"] == split).sum()), 2 if split == "train" else 1
        if count < minimum:  # with 30 listings, a split is empty in 1% of the cases: 0.85**30
            raise UserError(
                f"the {split} split has too few {what} ({count} of at least {minimum}): it takes about 30 listings "
                f"{'with photos ' if what == 'photos' else ''}for every split to have enough."
            )
    if rows.loc[rows["split"] == "train", "main_category_code"].nunique() < categories:
        raise UserError(f"all {what} of the train split are of one category: give some of another one, too.")


def majority_predictions(products: pd.DataFrame) -> np.ndarray:
    """The most frequent category of the train split, for every product (N,)."""
    labels = products["main_category_code"].to_numpy(np.int64)
    return np.full(len(labels), np.bincount(labels[rows_of_split(products, "train")]).argmax())


def category_row(
    model: str,
    kind: str,
    question: str | None,
    products: pd.DataFrame,
    predictions: np.ndarray,
    seconds: float | None,
    seed: int = 0,
) -> dict[str, Any]:
    """The result row of a model of the listings' categories, `predictions` (N,); see `evaluation.tables.QUESTIONS`."""
    labels = products["main_category_code"].to_numpy(np.int64)
    validation, test = (rows_of_split(products, split) for split in ("validation", "test"))
    scores = classification_metrics(labels[test], predictions[test], seed=seed)
    return {
        "task": "category",
        "question": question,
        "kind": kind,
        "model": model,
        "metric": "accuracy",
        "validation": accuracy_score(labels[validation], predictions[validation]),
        "test": scores.pop("accuracy"),
        "test_interval": scores.pop("accuracy_interval"),
        **scores,
        "baseline": accuracy_score(labels[test], majority_predictions(products)[test]),
        "seconds": seconds,
    }


def by_train_listings(correct: Mapping[str, np.ndarray], products: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy, one row a model, by the number of train listings of a listing's own leaf category.

    `correct` has, by model, whether each test listing is predicted correctly, bool (T,). The columns are ranges with
    the number of test listings in them, such as "6 to 11 (n = 32)"; ranges without a test listing are left out.
    """
    train, test = (products["category"].iloc[rows_of_split(products, split)] for split in ("train", "test"))
    counts = test.map(train.value_counts()).fillna(0).to_numpy()
    ranges = pd.cut(counts, [-1, 5, 11, np.inf], labels=["fewer than 6", "6 to 11", "12 or more"])
    grouped = pd.DataFrame(correct).astype(float).groupby(ranges, observed=True)
    return grouped.mean().set_axis([f"{name} (n = {count})" for name, count in grouped.size().items()]).T
