"""Pictures of the neural notebook: training curves, calibration, which model is right, and what an answer rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable

from evaluation.metrics import calibration_bins, expected_calibration_error
from evaluation.plots import MODEL_COLOURS, SPLIT_COLOURS, drawable

TRAINING_COLOURS = {"frozen": "#0072B2", "fine-tuned": "#D55E00", "random initialisation": "#999999"}


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


def plot_transfer(table: pd.DataFrame, size: str, score: str, ax: plt.Axes) -> None:
    """Draw a score against the number of train examples, one line for each way of training and size of photos.

    `table` has the columns `training`, `size`, `score` and, as far as they are known, `deviation` and `pixels`.
    """
    table = table.assign(pixels=table.get("pixels", 0), deviation=table.get("deviation", np.nan))
    styles = dict(zip(sorted(table["pixels"].unique()), ("-", "--", ":"), strict=False))
    for (training, pixels), of_each in table.groupby(["training", "pixels"], sort=False):
        look = {"linestyle": styles[pixels], "marker": "o", "markersize": 4, "capsize": 3}
        label = f"{training}, {pixels} pixels" if pixels else training
        deviation, colour = of_each["deviation"].astype(float), TRAINING_COLOURS[training]
        ax.errorbar(of_each[size], of_each[score], deviation, label=label, color=colour, **look)
    ax.set(xscale="log", xlabel=size, ylabel=f"{score} (13 categories)", ylim=(0, 1))
    sizes = sorted(table[size].unique())
    ax.set_xticks(sizes, [f"{count:,}" for count in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=7)


def plot_who_is_right(text: np.ndarray, photo: np.ndarray, both: np.ndarray, names: tuple[str, str, str]) -> plt.Axes:
    """Draw the listings in two by two fields: whether the text model and the photo model are right. Each field says
    how many there are and of how many the fusion is right. `text`, `photo`, `both`: bool (N,); `names`: of the three.
    """
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


def plot_reliability(
    probabilities: np.ndarray,
    labels: np.ndarray,
    before: np.ndarray,
    bins: int,
    ax: plt.Axes,
    title: str,
    colour: str,
) -> None:
    """Reliability diagram: accuracy against confidence, with the share of rows in each bin behind it; dashed that of
    the probabilities `before` calibration."""
    table = calibration_bins(np.asarray(probabilities), labels, bins)
    left = table.index.to_numpy() / bins
    shares = table["count"] / table["count"].sum()
    ax.bar(left, shares, width=1 / bins, align="edge", color="0.88", label="share of listings")
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="perfect")
    of_before = calibration_bins(np.asarray(before), labels, bins)
    ax.plot(
        of_before["confidence"], of_before["accuracy"], "o--", color="0.5", markersize=4, label="before calibration"
    )
    ax.plot(table["confidence"], table["accuracy"], "o-", color=colour, markersize=4, label="after calibration")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence (highest probability)", ylabel="accuracy; share of listings")
    ax.set_title(f"{title}\nexpected calibration error {expected_calibration_error(probabilities, labels):.3f}")
    ax.legend(fontsize=7, loc="upper left")


def listing_cards(pixels: Sequence[np.ndarray], texts: Sequence[str]) -> plt.Figure:
    """Draw photos, uint8 (S, S, 3) each, with a text of several lines to the right of each, two in a row."""
    rows = max(1, -(-len(pixels) // 2))
    lines = max((text.count("\n") + 1 for text in texts), default=1)
    size = (12, rows * max(1.6, 0.148 * lines + 0.2))
    figure, axes = plt.subplots(
        rows, 4, figsize=size, width_ratios=[1, 2.6, 1, 2.6], squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for photo_ax, text_ax, photo, text in zip(axes.flat[::2], axes.flat[1::2], pixels, texts, strict=False):
        photo_ax.imshow(photo)
        photo_ax.set_anchor("N")
        look = {"fontsize": 8, "va": "top", "parse_math": False, "transform": text_ax.transAxes}
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
