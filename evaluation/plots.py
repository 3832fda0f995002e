"""The look that all notebooks share (colours, resolution, short names), and plots that several of them draw."""

import functools
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.cm import ScalarMappable
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
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


def plot_confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], ax: plt.Axes | None = None, title: str = ""
) -> plt.Axes:
    """Draw the confusion matrix in percent of each true class, the classes in the order of `names` in every picture."""
    shares = confusion_matrix(labels, predictions, labels=range(len(names)), normalize="true")
    short, counts = short_names(names), np.bincount(labels, minlength=len(names))
    if ax is None:
        ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")[1]
    display = ConfusionMatrixDisplay(100 * shares, display_labels=short)
    display.plot(ax=ax, cmap="Blues", colorbar=False, values_format=".0f", im_kw={"vmin": 0, "vmax": 100})
    for text, share in zip(display.text_.flat, shares.flat, strict=True):
        text.set(fontsize=7, visible=text.get_text() != "0", color="white" if share > 0.5 else "#08306b")
    ax.tick_params(labelsize=8)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), [f"{name} ({count})" for name, count in zip(short, counts, strict=True)])
    ax.set(
        xlabel="predicted category", ylabel="true category (n)", title=title or "Of each true category, % predicted as"
    )
    return ax


def plot_reliability(
    probabilities: np.ndarray,
    labels: np.ndarray,
    bins: int = 10,
    ax: plt.Axes | None = None,
    title: str = "",
    before: np.ndarray | None = None,
    colour: str = MODEL_COLOURS["both"],
) -> plt.Axes:
    """Reliability diagram: accuracy against confidence, with the share of rows in each bin behind it; dashed that of
    the probabilities `before` calibration."""
    table = calibration_bins(np.asarray(probabilities), labels, bins)
    if ax is None:
        ax = plt.subplots(figsize=(4, 3.6), layout="constrained")[1]
    left = table.index.to_numpy() / bins
    shares = table["count"] / table["count"].sum()
    ax.bar(left, shares, width=1 / bins, align="edge", color="0.88", label="share of listings")
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="perfect")
    if before is not None:
        of_before = calibration_bins(np.asarray(before), labels, bins)
        ax.plot(
            of_before["confidence"], of_before["accuracy"], "o--", color="0.5", markersize=4, label="before calibration"
        )
    label = "model" if before is None else "after calibration"
    ax.plot(table["confidence"], table["accuracy"], "o-", color=colour, markersize=4, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence (highest probability)", ylabel="accuracy; share of listings")
    ax.set_title(f"{title}\nexpected calibration error {expected_calibration_error(probabilities, labels):.3f}".strip())
    ax.legend(fontsize=7, loc="upper left")
    return ax


def plot_by_train_listings(
    table: pd.DataFrame, models: Sequence[str], colours: Sequence[str | None] | None = None
) -> plt.Axes:
    """Draw the accuracies of some `models` in a table of `evaluation.results.by_train_listings`."""
    ax = plt.subplots(figsize=(8, 3.2), layout="constrained")[1]
    for place, (model, colour) in enumerate(zip(models, colours or [None] * len(models), strict=True)):
        rows = table[table["model"] == model]
        shifted = np.arange(len(rows)) + 0.06 * (place - (len(models) - 1) / 2)
        ax.errorbar(shifted, rows["test"], 1.96 * rows["error"], fmt="o", capsize=2, label=model, color=colour)
    ranges = [f"{name}\n(n = {count})" for name, count in zip(rows["train_listings"], rows["listings"], strict=True)]
    ax.set_xticks(range(len(rows)), ranges)
    ax.set(xlabel="train listings of the leaf category (n: test listings)", ylabel="test accuracy (95% interval)")
    ax.set(ylim=(0, 1.02), title="Accuracy by the number of train listings of the same leaf category")
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
        ax.set_title(drawable(text), fontsize=fontsize, pad=2, parse_math=False)
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


def plot_training(
    history: Sequence[Mapping[str, float]], kept: int, sizes: Mapping[str, int], what: str, title: str
) -> plt.Figure:
    """Draw the cross-entropy and the accuracy of every epoch; a line marks the `kept` one, a position in the history.

    `sizes` are the numbers of examples of train and validation, `what` says what they are.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "validation"):
            values = [epoch[f"{split}_{measure}"] for epoch in history]
            label = f"{split} (n = {sizes[split]:,})"
            ax.plot(epochs, values, marker=".", color=SPLIT_COLOURS[split], label=label)
        ax.axvline(epochs[kept], color="0.4", linestyle=":", label=f"kept: epoch {epochs[kept]}")
        ax.set(xlabel="epoch", ylabel="accuracy" if measure == "accuracy" else "cross-entropy (nats)", ylim=(0, None))
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(fontsize=8)
    figure.suptitle(f"{title}, per {what}")
    return figure


def plot_who_is_right(
    text: np.ndarray, photo: np.ndarray, both: np.ndarray, names: tuple[str, str, str], ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw the listings in two by two fields: whether the text model and the photo model are right. Each field says
    how many there are and of how many the fusion is right. `text`, `photo`, `both`: bool (N,); `names`: of the three.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")[1]
    fields = [[both[(text == words) & (photo == picture)] for picture in (True, False)] for words in (True, False)]
    shares = np.array([[field.mean() if len(field) else np.nan for field in line] for line in fields])
    ax.imshow(shares, cmap="Blues", vmin=-0.2, vmax=1.6, aspect="auto")
    for row, column in np.ndindex(2, 2):
        field = fields[row][column]
        share = f" ({field.mean():.0%})" if len(field) else ""
        ax.text(column, row, f"{len(field)} listings\n{names[2]} right: {field.sum()}{share}", ha="center", va="center")
    ax.set_xticks([0, 1], ["right", "wrong"])
    ax.set_yticks([0, 1], ["right", "wrong"], rotation=90, va="center")
    ax.tick_params(length=0)
    ax.set(xlabel=names[1], ylabel=names[0], title=f"Who is right when (n = {len(both)} test listings with a photo)")
    return ax


@functools.cache
def _glyphs() -> frozenset[int]:
    """The characters that the font of the pictures has."""
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def drawable(text: str) -> str:
    """A seller's text without the characters that the font lacks, such as most emoji: Matplotlib warns about them."""
    return "".join(letter for letter in text if letter == "\n" or ord(letter) in _glyphs())


def listing_cards(
    pixels: Sequence[np.ndarray], texts: Sequence[str], columns: int = 2, fontsize: float = 8
) -> plt.Figure:
    """Draw photos, uint8 (S, S, 3) each, with a text of several lines to the right of each."""
    rows = max(1, -(-len(pixels) // columns))
    lines = max((text.count("\n") + 1 for text in texts), default=1)
    size = (6 * columns, rows * max(1.6, 0.0185 * fontsize * lines + 0.2))
    widths = [1, 2.6] * columns
    figure, axes = plt.subplots(
        rows, 2 * columns, figsize=size, width_ratios=widths, squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for photo_ax, text_ax, photo, text in zip(axes.flat[::2], axes.flat[1::2], pixels, texts, strict=False):
        photo_ax.imshow(photo)
        photo_ax.set_anchor("N")
        look = {"fontsize": fontsize, "va": "top", "parse_math": False, "transform": text_ax.transAxes}
        text_ax.text(0, 1, drawable(text), **look)
    return figure


def plot_occlusion(
    pixels: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    words: Sequence[Mapping[str, float]],
    titles: Sequence[tuple[str, str]],
    most: int = 5,
    least: int = 3,
) -> plt.Figure:
    """Draw one line a listing: its photo, uint8 (S, S, 3), and on it how much the log odds of a category fall when a
    part is hidden, (S, S); then the words without which they fall most, and those without which they rise most.

    `titles`: of photo and words.
    """
    figure, axes = plt.subplots(
        len(pixels),
        3,
        figsize=(9, 2.4 * len(pixels)),
        width_ratios=[1, 1.3, 1.7],
        squeeze=False,
        layout="constrained",
    )
    lines = zip(axes, pixels, maps, words, titles, strict=True)
    for (photo_ax, map_ax, words_ax), photo, falls, of_words, title in lines:
        photo_ax.imshow(photo)
        photo_ax.set_title(title[0], fontsize=8, loc="left")
        reach = float(np.abs(falls).max()) or 1.0
        map_ax.imshow(photo.mean(axis=2), cmap="gray")
        drawn = map_ax.imshow(falls, cmap="PuOr_r", vmin=-reach, vmax=reach, alpha=np.abs(falls) / reach * 0.85)
        scale = ScalarMappable(drawn.norm, drawn.cmap)  # of the colours without their transparency
        figure.colorbar(scale, ax=map_ax, label="fall of log odds", fraction=0.05)
        for ax in (photo_ax, map_ax):
            ax.axis("off")
        order = sorted(of_words, key=lambda word: of_words[word])
        chosen = order if len(order) <= most + least else order[:least] + order[-most:]
        values = [of_words[word] for word in chosen]
        colours = [MODEL_COLOURS["text"] if value > 0 else "0.7" for value in values]
        words_ax.barh([drawable(word) or "?" for word in chosen], values, color=colours)
        words_ax.axvline(0, color="0.4", linewidth=0.8)
        words_ax.set_xlabel("fall of log odds without the word", fontsize=8)
        words_ax.tick_params(labelsize=8)
        words_ax.set_title(title[1], fontsize=8, loc="left")
    return figure


def plot_transfer(table: pd.DataFrame, size: str, score: str, ax: plt.Axes) -> None:
    """Draw a score against the number of train examples, one line for each way of training and size of photos.

    `table` has the columns `training`, `size`, `score` and, as far as they are known, `deviation` and `pixels`.
    """
    table = table.assign(pixels=table.get("pixels", 0), deviation=table.get("deviation", np.nan))
    colours = dict(zip(table["training"].unique(), ("#0072B2", "#D55E00", "#999999"), strict=False))
    styles = dict(zip(sorted(table["pixels"].unique()), ("-", "--", ":"), strict=False))
    for (training, pixels), of_each in table.groupby(["training", "pixels"], sort=False):
        look = {"color": colours[training], "linestyle": styles[pixels], "marker": "o", "markersize": 4, "capsize": 3}
        label = f"{training}, {pixels} pixels" if pixels else training
        ax.errorbar(of_each[size], of_each[score], of_each["deviation"].astype(float), label=label, **look)
    ax.set(xscale="log", xlabel=size, ylabel=f"{score} (13 categories)", ylim=(0, 1))
    sizes = sorted(table[size].unique())
    ax.set_xticks(sizes, [f"{count:,}" for count in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=7)


def plot_learning_curve(table: pd.DataFrame) -> plt.Axes:
    """Draw the validation accuracy of each model against the number of train listings, with its deviation.

    `table`: the rows of `benchmarks.learning_curve`.
    """
    ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")[1]
    styles = iter(("-", "--", ":", "-."))
    for model, of_model in table.groupby("model", sort=False):
        kind = {"TextModel": "text", "TextModel and TF-IDF": "both"}.get(str(model), "shallow")
        look: dict[str, Any] = {"color": MODEL_COLOURS[kind], "linestyle": next(styles) if kind == "shallow" else "-"}
        look |= {"marker": "o", "markersize": 4, "capsize": 3, "label": model}
        sizes = of_model["train listings"]
        ax.errorbar(sizes, of_model["validation accuracy"], of_model["deviation"].astype(float), **look)
    ax.set(xscale="log", xlabel="train listings", ylabel="accuracy on validation")
    ax.set_xticks(sizes, [f"{count:,}" for count in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=7, loc="lower right")
    return ax
