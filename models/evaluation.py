"""How good a model is: metrics with intervals, pictures of its mistakes, and the results that the README quotes.

    python -m models.evaluation [--data-dir data]

reads every `results/*.json` of the data folder and prints the one table of results. Everything else here is called by
the notebooks and by `train_models.py`; all functions take NumPy arrays and know nothing of how a model was trained.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from data_folder import DataFolder, UserError, argument_parser, read_json, run, write_json

RESULTS_ORDER = ("tabular_linear_regression", "image_classification", "neural_networks", "product_ranking")
TABLE_COLUMNS = ("task", "model", "metric", "validation", "test", "test_interval", "baseline", "seconds")


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


# Pictures -------------------------------------------------------------------------------------------------------------


def confusion_order(shares: np.ndarray) -> np.ndarray:
    """An order of the classes that puts those which are taken for each other side by side.

    `shares` (C, C): row-normalised confusion matrix. Average linkage over 1 - mutual confusion.
    """
    if len(shares) < 3:
        return np.arange(len(shares))
    mutual = (shares + shares.T) / 2
    distance = (mutual.max() - mutual)[np.triu_indices(len(shares), 1)]
    return leaves_list(linkage(distance, method="average", optimal_ordering=True))


def plot_confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], ax: plt.Axes | None = None, title: str = ""
) -> plt.Axes:
    """Draw the confusion matrix in percent of each true class, similar classes side by side."""
    counts = count_pairs(labels, predictions, len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    order = confusion_order(shares)
    shares = shares[np.ix_(order, order)]
    if ax is None:
        ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")[1]
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.5 else "black"
            ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    short = [names[index] if len(names[index]) < 26 else names[index][:24] + "…" for index in order]
    ax.set_xticks(range(len(names)), short, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_yticks(range(len(names)), short, fontsize=8)
    ax.set_xlabel("predicted category")
    ax.set_ylabel("true category")
    ax.set_title(title or "Of each true category, % predicted as")
    return ax


def plot_reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, ax: plt.Axes | None = None, title: str = ""
) -> plt.Axes:
    """Reliability diagram: accuracy against confidence, with the share of rows in each bin behind it."""
    table = calibration_bins(np.asarray(probabilities), labels, bins)
    error = expected_calibration_error(probabilities, labels)
    if ax is None:
        ax = plt.subplots(figsize=(4, 3.6), layout="constrained")[1]
    left = table.index.to_numpy() / bins
    ax.bar(
        left, table["count"] / table["count"].sum(), width=1 / bins, align="edge", color="0.85", label="share of rows"
    )
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="perfect")
    ax.plot(table["confidence"], table["accuracy"], marker="o", markersize=4, label="model")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence (highest probability)", ylabel="accuracy, share of rows")
    ax.set_title(f"{title}\nexpected calibration error {error:.3f}".strip())
    ax.legend(fontsize=7, loc="upper left")
    return ax


def photo_grid(
    pixels: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 6,
    size: float = 1.3,
    title: str = "",
    fontsize: float = 7,
) -> plt.Figure:
    """Draw photos, uint8 (S, S, 3) each, in a grid with a caption (of one or more lines) above each.

    `size`: width of one photo in inches.
    """
    rows = max(1, -(-len(pixels) // columns))
    caption = 0.02 * fontsize * max((text.count("\n") + 1 for text in titles), default=1)
    height = rows * (size + caption) + (0.35 if title else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, height), squeeze=False, layout="constrained", dpi=80
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, photo, text in zip(axes.flat, pixels, titles, strict=False):
        ax.imshow(photo)
        ax.set_title(text, fontsize=fontsize, pad=2)
    if title:
        figure.suptitle(title, fontsize=fontsize + 3)
    return figure


# Results --------------------------------------------------------------------------------------------------------------


def processor_name() -> str:
    """The processor's model in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """The hardware and the versions that a result depends on; no host name, no user, no path."""
    import torch  # here, so that the table of results is printed without waiting for it

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    if gpu is None and torch.backends.mps.is_available():
        gpu = "Apple GPU"
    words = f"{cores} cores of {processor_name()}" + (f", {memory:.0f} GiB memory" if memory else "")
    return {
        "words": f"{words}, {gpu or 'no GPU'}",
        "processor": processor_name(),
        "cores": cores,
        "memory_gib": None if memory is None else round(memory, 1),
        "gpu": gpu,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "scikit-learn", "numpy")},
    }


def dataset_name(data_dir: str | Path) -> str:
    """What results are about: the sample marketplace (its folder holds the embedded database) or the user's data."""
    return "sample marketplace" if DataFolder(data_dir).database.exists() else "user data"


def plain(value: Any) -> Any:
    """The same value for JSON: NumPy scalars and arrays as Python's own, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_results(data_dir: str | Path, name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Write `results/<name>.json` and return what was written; name, data set and hardware are filled in.

    `results` holds `seed`, `split_sizes`, `parameters` and `rows`; each row has at least `task` and `model`, and as far
    as they apply the other keys of `TABLE_COLUMNS`; `baseline` is the dumb baseline's test score. More keys are kept.
    """
    missing = [key for key in ("seed", "split_sizes", "parameters", "rows") if key not in results]
    if missing:
        raise ValueError(f"results of {name} lack {', '.join(missing)}")
    written = plain({"name": name, "dataset": dataset_name(data_dir), "hardware": environment(), **results})
    write_json(DataFolder(data_dir).results / f"{name}.json", written)
    return written


def formatted(value: Any) -> str:
    """A number for a table: three decimals, one from ten up, none from a hundred up; nothing for what is not there."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def rows_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Result rows as a table of `TABLE_COLUMNS`; the interval as text."""
    table = pd.DataFrame([{name: row.get(name) for name in TABLE_COLUMNS} for row in rows], columns=list(TABLE_COLUMNS))
    table["test_interval"] = [
        f"{formatted(pair[0])} to {formatted(pair[1])}" if isinstance(pair, Sequence) else ""
        for pair in table["test_interval"]
    ]
    return table


def readme_rows(results: Mapping[str, Any]) -> str:
    """The rows of one results file as a Markdown table, as they stand in the README."""
    table = rows_table(results["rows"]).map(formatted)
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in TABLE_COLUMNS) + " |",
        "|---" * len(TABLE_COLUMNS) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in table.itertuples(index=False)]
    sizes = ", ".join(f"{name} {size:,}" for name, size in results["split_sizes"].items())
    lines += ["", f"{results['dataset']}; {sizes}; seed {results['seed']}; {results['hardware']['words']}."]
    return "\n".join(lines)


def results_table(data_dir: str | Path) -> pd.DataFrame:
    """The rows of all `results/*.json` of a data folder, in the order of the notebooks.

    Raises UserError when there is none, or one is damaged.
    """
    folder = DataFolder(data_dir).results
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))}
    if not paths:
        raise UserError(f"{folder} holds no results: run the notebooks on this data folder first.")
    names = [name for name in RESULTS_ORDER if name in paths] + [name for name in paths if name not in RESULTS_ORDER]
    rows = []
    for name in names:
        results = read_json(paths[name], f"{name}.ipynb")
        if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
            raise UserError(f"{paths[name]} holds no result rows: delete it and run {name} again.")
        rows += results["rows"]
    return rows_table(rows)


def main() -> None:
    arguments = argument_parser("Print the one table of results of a data folder.").parse_args()
    table = results_table(arguments.data_dir).map(formatted)
    print(f"Results on the {dataset_name(arguments.data_dir)}, from {DataFolder(arguments.data_dir).results}:")
    print(table.to_string(index=False))


if __name__ == "__main__":
    run(main)
