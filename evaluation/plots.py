"""The look that all notebooks share (colours, resolution, short names), and plots that several of them draw."""

import functools
import io
import re
from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

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


def plot_confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], ax: plt.Axes, title: str
) -> None:
    """Draw the confusion matrix in percent of each true class, the classes in the order of `names` in every picture."""
    shares = confusion_matrix(labels, predictions, labels=range(len(names)), normalize="true")
    short, counts = short_names(names), np.bincount(labels, minlength=len(names))
    display = ConfusionMatrixDisplay(100 * shares, display_labels=short)
    display.plot(ax=ax, cmap="Blues", colorbar=False, values_format=".0f", im_kw={"vmin": 0, "vmax": 100})
    for text, share in zip(display.text_.flat, shares.flat, strict=True):
        text.set(fontsize=7, visible=text.get_text() != "0", color="white" if share > 0.5 else "#08306b")
    ax.tick_params(labelsize=8)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), [f"{name} ({count})" for name, count in zip(short, counts, strict=True)])
    ax.set(xlabel="predicted category", ylabel="true category (n)", title=title)


def plot_by_train_listings(table: pd.DataFrame, models: Sequence[str], colours: Sequence[str]) -> plt.Axes:
    """Draw the accuracies of some `models` in a table of `evaluation.results.by_train_listings`."""
    ax = plt.subplots(figsize=(8, 3.2), layout="constrained")[1]
    for place, (model, colour) in enumerate(zip(models, colours, strict=True)):
        rows = table[table["model"] == model]
        shifted = np.arange(len(rows)) + 0.06 * (place - (len(models) - 1) / 2)
        ax.errorbar(shifted, rows["test"], 1.96 * rows["error"], fmt="o", capsize=2, label=model, color=colour)
    ranges = [f"{name}\n(n = {count})" for name, count in zip(rows["train_listings"], rows["listings"], strict=True)]
    ax.set_xticks(range(len(rows)), ranges)
    ax.set(xlabel="train listings of the leaf category (n: test listings)", ylabel="test accuracy (95% interval)")
    ax.set(ylim=(0, 1.02), title="Accuracy by the number of train listings of the same leaf category")
    ax.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    return ax


@functools.cache
def _glyphs() -> frozenset[int]:
    """The characters that the font of the pictures has."""
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def drawable(text: str) -> str:
    """A seller's text without the characters that the font lacks, such as most emoji: Matplotlib warns about them."""
    return "".join(letter for letter in text if letter == "\n" or ord(letter) in _glyphs())


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
        ax.set_title(drawable(text), fontsize=fontsize, pad=2, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=fontsize + 3)
    return figure
