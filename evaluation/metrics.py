"""How good a model is: metrics with intervals, pictures of its mistakes, and the results that the README quotes.

    python -m models.evaluation [--data-dir data]

reads every `results/*.json` of the data folder and prints the one table of results. Everything else here is called by
the notebooks and by `train_models.py`; all functions take NumPy arrays and know nothing of how a model was trained.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Metrics and their intervals ------------------------------------------------------------------------------------------


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of equal entries in two integer arrays (N,)."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def count_pairs(labels: np.ndarray, predictions: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Confusion matrix (C, C) of counts: row the true class, column the predicted one."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    num_classes = num_classes or int(max(labels.max(), predictions.max())) + 1
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions; equal to scikit-learn's, and quick."""
    counts = count_pairs(labels, predictions)
    totals = counts.sum(axis=0) + counts.sum(axis=1)  # twice the true positives, the false ones and the missed ones
    return float(np.mean(2 * np.diag(counts)[totals > 0] / totals[totals > 0]))


def bootstrap_interval(
    metric_function: Callable[..., float],
    *arrays: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `metric_function(*arrays)`, the arrays resampled by row (N, ...).

    With `groups` (N,), whole groups are drawn: the photos of one product, say, are not independent of each other.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    arrays = tuple(np.asarray(array) for array in arrays)
    generator = np.random.default_rng(seed)
    codes = np.arange(len(arrays[0])) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    values = np.empty(resamples)
    for index in range(resamples):
        drawn = generator.integers(len(sizes), size=len(sizes))
        length = sizes[drawn]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        rows = order[np.repeat(starts[drawn], length) + within]
        values[index] = metric_function(*(array[rows] for array in arrays))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(
    correct_a: np.ndarray, correct_b: np.ndarray, groups: np.ndarray | None = None, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Difference of two models' mean scores on the same rows: `{"difference": a - b, "interval": (low, high)}`.

    `correct_a`, `correct_b` (N,): any score of each row, such as 1 for right and 0 for wrong. An interval without 0
    says that the difference is not an accident of which rows were drawn.
    """
    difference = np.asarray(correct_a, dtype=float) - np.asarray(correct_b, dtype=float)
    interval = bootstrap_interval(np.mean, difference, groups=groups, resamples=resamples, seed=seed)
    return {"difference": float(difference.mean()), "interval": interval}


def classification_metrics(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Accuracy and macro-F1 of integer `labels` and `predictions` (N,), each with its 95% bootstrap interval."""
    return {
        "accuracy": accuracy(labels, predictions),
        "accuracy_interval": bootstrap_interval(accuracy, labels, predictions, groups=groups, seed=seed),
        "macro_f1": macro_f1(labels, predictions),
        "macro_f1_interval": bootstrap_interval(macro_f1, labels, predictions, groups=groups, seed=seed),
    }


def per_class_table(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and number of rows of each class; a class that never occurs has 0 everywhere."""
    counts = count_pairs(labels, predictions, len(names))
    right, predicted, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    columns = {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(true, 1),
        "f1": 2 * right / np.maximum(predicted + true, 1),
        "rows": true,
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="category"))


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """1 - mean squared error / variance of two arrays (N,): 1 is perfect, 0 what the mean of `true` would reach.

    Where all of `true` are equal, 1 or 0 as in scikit-learn.
    """
    error, variance = np.mean((true - predicted) ** 2), np.var(true)
    return float(1 - error / variance) if variance > 0 else float(error == 0)


def log_r_squared(prices: np.ndarray, predicted: np.ndarray) -> float:
    """R2 of log prices; a prediction below £1 counts as £1, since a linear model may fall below nothing."""
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


# Calibration ----------------------------------------------------------------------------------------------------------


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> pd.DataFrame:
    """Mean confidence, accuracy and count in equally wide bins of the highest probability; empty bins left out."""
    confidence = np.max(probabilities, axis=1)
    right = np.argmax(probabilities, axis=1) == np.asarray(labels)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float)})
    grouped = table.groupby(np.minimum((confidence * bins).astype(int), bins - 1))
    return grouped.mean().assign(count=grouped.size())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, weighted by bin size. Source: Guo et al., 2017.

    `probabilities` (N, C), rows summing to 1; `labels` (N,) integers.
    """
    table = calibration_bins(np.asarray(probabilities), labels, bins)
    return float(np.average(np.abs(table["confidence"] - table["accuracy"]), weights=table["count"]))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of -log p(label) for `logits` (N, C) divided by `temperature`."""
    scores = log_softmax(np.asarray(logits, dtype=float) / temperature, axis=1)
    return float(-np.mean(scores[np.arange(len(scores)), np.asarray(labels)]))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in 0.05 to 20 by which logits (N, C) are divided for the best likelihood. Source: Guo et al."""
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, np.exp(log_t)),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))
