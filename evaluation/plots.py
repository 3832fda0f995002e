"""The look that all notebooks share (colours, resolution, short names), and plots that several of them draw."""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from sklearn.metrics import ConfusionMatrixDisplay

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
NOT_DRAWABLE = re.compile("[^\n\x20-\x7e\xa0-\u024f\u2010-\u2044€™]")  # Matplotlib warns of glyphs its font lacks


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
    intervals: Sequence[Sequence[float]],
    colours: str | Sequence[str] = MODEL_COLOURS["shallow"],
) -> None:
    """Draw one score a row, the first on top, each as a point on the line of its interval."""
    rows = np.arange(len(names))
    ends = np.asarray(intervals, dtype=float).reshape(len(names), 2)
    ax.hlines(rows, ends[:, 0], ends[:, 1], colors=colours, linewidth=1.5)
    ax.scatter(scores, rows, s=25, c=colours, zorder=3)
    ax.set_yticks(rows, names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)


def plot_confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], ax: plt.Axes, title: str
) -> None:
    """Draw the confusion matrix as shares of each true class, the classes in the order of `names`."""
    short, counts = short_names(names), np.bincount(labels, minlength=len(names))
    look = {"cmap": "Blues", "colorbar": False, "values_format": ".0%", "text_kw": {"fontsize": 7}, "ax": ax}
    display = ConfusionMatrixDisplay.from_predictions(
        labels, predictions, labels=range(len(names)), display_labels=short, normalize="true", **look
    )
    for text in display.text_.flat:
        text.set_visible(text.get_text() != "0%")
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), [f"{name} ({count})" for name, count in zip(short, counts, strict=True)])
    ax.set(xlabel="predicted category", ylabel="true category (n)", title=title)


def plot_by_train_listings(table: pd.DataFrame, colours: Mapping[str, str]) -> plt.Axes:
    """Draw the accuracies of the models in `colours`, out of a table of `evaluation.metrics.by_train_listings`."""
    ax = table.loc[[*colours]].T.plot.bar(color=colours, figsize=(8, 3.2), rot=0, ylim=(0, 1), width=0.7)
    ax.set(xlabel="train listings of the leaf category (n: test listings)", ylabel="test accuracy")
    ax.set_title("Accuracy by the number of train listings of the same leaf category")
    ax.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    return ax


def drawable(text: str) -> str:
    """A seller's text without the characters that the font of the pictures may lack, such as emoji."""
    return NOT_DRAWABLE.sub("", text)


def photo_grid(
    pixels: Sequence[np.ndarray | None],
    titles: Sequence[str],
    columns: int = 6,
    size: float = 1.3,
    title: str = "",
    fontsize: float = 7,
) -> plt.Figure:
    """Draw photos, uint8 (S, S, 3) each or None for a missing one, in a grid with a caption of any lines above each.

    `size`: width of one photo in inches.
    """
    rows = max(1, -(-len(pixels) // columns))
    caption = 0.02 * fontsize * max((text.count("\n") + 1 for text in titles), default=1)
    height = rows * (size + caption) + (0.35 if title else 0)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, height), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, photo, text in zip(axes.flat, pixels, titles, strict=False):
        ax.imshow(np.full((1, 1, 3), 235, np.uint8) if photo is None else photo)
        if photo is None:
            ax.text(0, 0, "no photo", ha="center", va="center", fontsize=fontsize)
        ax.set_title(drawable(text), fontsize=fontsize, pad=2, parse_math=False)
    figure.suptitle(title, fontsize=fontsize + 3)
    return figure
