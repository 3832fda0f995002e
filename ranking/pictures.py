"""Pictures of the ranking notebook: a vector as its blocks, and lists of photos with their grades."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from evaluation.plots import MODEL_COLOURS, drawable

NAMED = 2  # so many of the greatest numbers of a block of categories are labelled
SIDE = 1.3  # width of a photo in a list, inches


def draw_photo(ax: plt.Axes, photo: np.ndarray | None, caption: str) -> None:
    """A photo, uint8 (S, S, 3), or the words "no photo", below its caption."""
    if photo is None:
        photo = np.full((1, 1, 3), 235, np.uint8)
        ax.text(0, 0, "no photo", ha="center", va="center", fontsize=7, color="0.35")
    ax.imshow(photo)
    ax.set_title(drawable(caption), fontsize=7, pad=2, parse_math=False)
    ax.set_axis_off()


def plot_vector(
    blocks: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    names: Mapping[str, Sequence[str]],
    photo: np.ndarray | None,
    caption: str,
) -> plt.Figure:
    """Draw the blocks (D,) of one listing, those of its text in one column and those of its photos in another.

    `names` has the categories that the D numbers of some blocks stand for; the greatest numbers are labelled by them.
    """
    sides = [[name for name in blocks if name.startswith(side)] for side in ("text", "image")]
    rows = max(map(len, sides))
    figure = plt.figure(figsize=(9.2, 1.45 * rows + 0.3), layout="constrained")
    grid = figure.add_gridspec(rows, 3, width_ratios=(1.1, 2, 2))
    draw_photo(figure.add_subplot(grid[:, 0]), photo, caption)
    for column, (side, colour) in enumerate(zip(sides, ("text", "photo"), strict=True), start=1):
        for row, name in enumerate(side):
            ax = figure.add_subplot(grid[row, column])
            values = blocks[name]
            ax.vlines(np.arange(len(values)), 0, values, color=MODEL_COLOURS[colour], lw=1.2)
            ax.axhline(0, color="0.5", lw=0.5)
            ax.set_title(f"{name}: {len(values)} numbers, weight {weights[name]:.2f}", fontsize=8)
            ax.tick_params(labelsize=7)
            ax.set_ylabel("value" if column == 1 else "", fontsize=7)
            if name in names:
                label_greatest(ax, values, names[name])
    figure.supxlabel("position in the block", fontsize=8)
    return figure


def label_greatest(ax: plt.Axes, values: np.ndarray, names: Sequence[str]) -> None:
    """Write the names of the greatest `values` (D,) beside their lines."""
    highest = values.max() or 1.0  # a missing photo: all are 0
    ax.set_ylim(0, 1.35 * highest)
    for place, position in enumerate(np.argsort(-values, kind="stable")[:NAMED]):
        height = 1.15 * highest if place == 0 else min(values[position], 0.8 * highest)  # no label on another
        right = position > len(values) / 2
        ax.annotate(
            names[position],
            (position, height),
            xytext=(-3 if right else 3, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def plot_lists(
    photos: Sequence[Sequence[np.ndarray | None]],
    captions: Sequence[Sequence[str]],
    notes: Sequence[str],
    title: str,
) -> plt.Figure:
    """Draw one row of photos for each query: the query, left, what is listed for it, and a note below the row.

    `photos`: uint8 (S, S, 3) each, None for a listing without one.
    """
    columns = max(map(len, photos))
    lines = [2 + row[0].count("\n") + note.count("\n") for row, note in zip(captions, notes, strict=True)]
    heights = [SIDE + 0.14 * count for count in lines]
    figure = plt.figure(figsize=(columns * SIDE, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for part, row, texts, note in zip(
        figure.subfigures(len(photos), 1, height_ratios=heights, squeeze=False)[:, 0],
        photos,
        captions,
        notes,
        strict=True,
    ):
        axes = part.subplots(1, columns, squeeze=False)[0]
        for ax in axes:
            ax.set_axis_off()
        for ax, photo, text in zip(axes, row, texts, strict=False):
            draw_photo(ax, photo, text)
        part.supxlabel(note, fontsize=8, x=0.01, ha="left")
    return figure
