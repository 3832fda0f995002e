"""The look that all notebooks share (colours, resolution, short names), and plots that several of them draw."""

import io
import re
from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from evaluation.metrics import calibration_bins, expected_calibration_error

DPI = 110
# The palette of Okabe and Ito, which colour-blind readers can tell apart.
SPLIT_COLOURS = {"train": "#56B4E9", "validation": "#E69F00", "test": "#333333"}
MODEL_COLOURS = {  # by kind; "both" is a model of words and photo
    "naive": "#999999",
    "shallow": "#0072B2",
    "text": "#009E73",
    "photo": "#CC79A7",
    "both": "#D55E00",
}
LONGEST_NAME = 17  # characters of a category's name that is not shortened


def set_style() -> None:
    """Set the resolution, font size and layout of a notebook's pictures."""
    plt.rcParams.update({"figure.dpi": DPI, "savefig.dpi": DPI, "font.size": 9, "figure.constrained_layout.use": True})


def short_names(names: Sequence[str]) -> list[str]:
    """Names of categories for labels: of a long one the part before its first comma or ampersand ("Clothes, Footwear &
    Accessories" is "Clothes"), unless two different names would read the same."""
    short = {name: name if len(name) <= LONGEST_NAME else re.split(", | & ", name)[0] for name in names}
    counts = Counter(short.values())
    return [short[name] if counts[short[name]] == 1 else name for name in names]


def as_jpeg(figure: plt.Figure) -> Image:
    """The figure as a JPEG, which takes a fraction of a PNG's space where it shows photos; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=DPI, pil_kwargs={"quality": 85})
    plt.close(figure)
    return Image(buffer.getvalue(), format="jpeg")


def plot_scores(
    ax: plt.Axes,
    names: Sequence[str],
    scores: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    colours: str | Sequence[str] = MODEL_COLOURS["shallow"],
) -> None:
    """Draw one score a row, the first on top, each as a point on the line of its interval."""
    rows = np.arange(len(names))
    ends = np.asarray(intervals, dtype=float).reshape(len(names), 2)
    ax.hlines(rows, ends[:, 0], ends[:, 1], colors=colours, linewidth=1.5)
    ax.scatter(scores, rows, s=25, c=colours, zorder=3)
    ax.set_yticks(rows, names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)


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
    short = np.array(short_names(names))[order]
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
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, height), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, photo, text in zip(axes.flat, pixels, titles, strict=False):
        ax.imshow(photo)
        ax.set_title(text, fontsize=fontsize, pad=2)
    if title:
        figure.suptitle(title, fontsize=fontsize + 3)
    return figure
