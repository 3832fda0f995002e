"""Plots that several notebooks draw."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from evaluation.metrics import calibration_bins, expected_calibration_error

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
MODEL_COLOURS = {  # by kind; "both" is a model of words and photo
    "naive": "#999999",
    "shallow": "#0072B2",
    "text": "#009E73",
    "photo": "#CC79A7",
    "both": "#D55E00",
}


def confusion_order(shares: np.ndarray) -> np.ndarray:
    """An order of the classes that puts classes which are confused with each other side by side.

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
    shares = confusion_matrix(labels, predictions, labels=range(len(names)), normalize="true")
    order = confusion_order(shares)
    short = [names[index] if len(names[index]) < 26 else names[index][:24] + "…" for index in order]
    if ax is None:
        ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")[1]
    display = ConfusionMatrixDisplay(100 * shares[np.ix_(order, order)], display_labels=short)
    display.plot(ax=ax, cmap="Blues", colorbar=False, values_format=".0f", im_kw={"vmin": 0, "vmax": 100})
    for text in display.text_.flat:
        text.set(fontsize=7, visible=text.get_text() != "0")
    ax.tick_params(labelsize=8)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ax.set(xlabel="predicted category", ylabel="true category", title=title or "Of each true category, % predicted as")
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
    shares = table["count"] / table["count"].sum()
    ax.bar(left, shares, width=1 / bins, align="edge", color="0.85", label="share of rows")
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="perfect")
    ax.plot(table["confidence"], table["accuracy"], marker="o", markersize=4, label="model")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence (highest probability)", ylabel="accuracy, share of rows")
    ax.set_title(f"{title}\nexpected calibration error {error:.3f}".strip())
    ax.legend(fontsize=7, loc="upper left")
    return ax


def plot_by_train_listings(table: pd.DataFrame, models: Sequence[str]) -> plt.Axes:
    """Draw the accuracies of some `models` in a table of `evaluation.results.by_train_listings`."""
    ax = plt.subplots(figsize=(8, 3.2), layout="constrained")[1]
    for place, model in enumerate(models):
        rows = table[table["model"] == model]
        shifted = np.arange(len(rows)) + 0.06 * (place - (len(models) - 1) / 2)
        ax.errorbar(shifted, rows["test"], 1.96 * rows["error"], fmt="o", capsize=2, label=model)
    ranges = [f"{name}\n(n = {count})" for name, count in zip(rows["train_listings"], rows["listings"], strict=True)]
    ax.set_xticks(range(len(rows)), ranges)
    ax.set(xlabel="train listings of the leaf category", ylabel="accuracy on test (line: 95% interval)", ylim=(0, 1.02))
    ax.set_title("Accuracy by the number of train listings of the same leaf category")
    ax.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
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


def plot_models(table: pd.DataFrame) -> plt.Figure:
    """Draw the test scores of models with their intervals, and beside them the seconds of training.

    `table`: of `evaluation.glance.chart_table`. One line a model, below the headings of the questions; for each data
    set a panel of scores and a narrow one of seconds, which has no dot where they were not measured.
    """
    lines: dict[tuple[str, str], int] = {}
    names: list[str] = []
    headings: list[int] = []
    for question, of_question in table.groupby("question", sort=False):
        headings.append(len(names))
        names.append(question)
        for kind in MODEL_COLOURS:
            for model in of_question.loc[of_question["kind"] == kind, "model"].unique():
                lines[question, model] = len(names)
                names.append(model)
    sources = list(table["source"].unique())
    figure, axes = plt.subplots(
        1,
        2 * len(sources),
        figsize=(9.6, 0.19 * len(names) + 1.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
        width_ratios=[2.2, 1] * len(sources),
    )
    for source, (scores, seconds) in zip(sources, axes.reshape(-1, 2), strict=True):
        for kind, colour in MODEL_COLOURS.items():
            of_kind = table[(table["source"] == source) & (table["kind"] == kind)]
            places = [lines[key] for key in zip(of_kind["question"], of_kind["model"], strict=True)]
            reach = [of_kind["test"] - of_kind["low"], of_kind["high"] - of_kind["test"]]
            scores.errorbar(of_kind["test"], places, xerr=reach, fmt="o", markersize=4, color=colour, label=kind)
            seconds.plot(of_kind["seconds"].astype(float), places, "o", markersize=4, color=colour)
        scores.set(xlim=(-0.1, 1.04), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="score (line: 95% interval)")
        scores.set_xticklabels(["0", "", "0.5", "", "1"])
        scores.set_title(f"{source}: test score", fontsize=10)
        seconds.set(xscale="log", xlim=(1e-3, 1e4), xlabel="seconds")
        seconds.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])
        seconds.set_title("training", fontsize=10)
        for ax in (scores, seconds):
            ax.tick_params(axis="y", length=0)
            ax.tick_params(axis="x", labelsize=9)
            ax.grid(axis="x", color="0.9")
            ax.set_axisbelow(True)
            for place in headings:
                ax.axhspan(place - 0.5, place + 0.5, color="0.93")
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    for place in headings:
        axes[0, 0].get_yticklabels()[place].set_fontweight("bold")
    names_of_kinds = [kind if kind in ("naive", "shallow") else f"ours: {kind}" for kind in MODEL_COLOURS]
    handles = axes[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles, names_of_kinds, fontsize=9, loc="outside upper center", ncols=len(handles))
    return figure
