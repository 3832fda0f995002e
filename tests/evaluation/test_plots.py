"""The plots of the notebooks."""

import io
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import plots
from marketplace.listings import SPLITS

matplotlib.use("Agg")


def test_confusion_matrix_shows_shares_of_the_true_class_in_the_order_of_the_names():
    labels = np.repeat([0, 1, 2, 3], 10)
    predictions = labels.copy()
    predictions[:4], predictions[20:25] = 2, 0  # 0 and 2 are taken for each other
    ax = plt.subplots()[1]
    plots.plot_confusion_matrix(labels, predictions, ["sofa", "drill", "armchair", "shoe"], ax, "Mistakes")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["sofa (10)", "drill (10)", "armchair (10)", "shoe (10)"]
    shares = np.asarray(ax.images[0].get_array())
    assert shares.sum(axis=1) == pytest.approx(np.ones(4))
    assert shares[0, 2] == pytest.approx(0.4)


def test_short_names_end_at_a_word_and_stay_different():
    names = ["Clothes, Footwear & Accessories", "Home & Garden", "Phones, Mobile & Fixed", "Phones, Toys & Games"]
    assert plots.short_names(names) == ["Clothes", "Home & Garden", *names[2:]]
    assert plots.short_names([names[0], names[0]]) == ["Clothes", "Clothes"]


def test_scores_stand_from_top_to_bottom_on_their_intervals():
    ax = plt.subplots()[1]
    plots.plot_scores(ax, ["naive", "ours"], [0.2, 0.6], [(0.1, 0.3), (0.5, 0.8)], ["grey", "red"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["naive", "ours"] and ax.yaxis_inverted()
    lines, points = ax.collections
    assert [line[:, 0].tolist() for line in lines.get_segments()] == [[0.1, 0.3], [0.5, 0.8]]
    assert points.get_offsets().tolist() == [[0.2, 0], [0.6, 1]]
    plt.close("all")


def test_a_photo_grid_becomes_a_jpeg_at_the_resolution_of_all_pictures():
    with plt.rc_context():
        plots.set_style()
        figure = plots.photo_grid(np.zeros((2, 8, 8, 3), np.uint8), ["one", "two"], columns=2, size=1.5)
        with Image.open(io.BytesIO(plots.as_jpeg(figure).data)) as image:
            assert image.format == "JPEG" and image.width == 2 * 1.5 * plots.DPI
    assert figure.number not in plt.get_fignums()


def test_colours_of_splits_and_models_differ():
    colours = [*plots.SPLIT_COLOURS.values(), *plots.MODEL_COLOURS.values()]
    assert len(set(colours)) == len(colours) and plots.SPLIT_COLOURS.keys() == set(SPLITS)


def test_pictures_can_be_drawn_from_few_rows_and_absent_classes():
    ax = plt.subplots()[1]
    plots.plot_confusion_matrix(np.array([0, 1]), np.array([1, 1]), ["a", "b"], ax, "Two")
    plots.plot_confusion_matrix(np.array([0, 0]), np.array([0, 0]), list("abcd"), ax, "Four")
    table = pd.DataFrame({"fewer than 6 (n = 1)": [1.0, 0.5]}, index=["one", "other"])
    ax = plots.plot_by_train_listings(table, {"other": "tab:red"})
    assert [bar.get_height() for bar in ax.patches] == [0.5]
    plt.close("all")


def test_a_photo_grid_shows_where_a_photo_is_missing_and_leaves_out_what_the_font_lacks():
    pixels = [*np.zeros((6, 8, 8, 3), np.uint8), None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.photo_grid(pixels, ["Lamp 👍 £5\n“new”, $5 to $6 日本"] * 7, columns=3, title="Seven")
        figure.canvas.draw()
    titles = {ax.get_title() for ax in figure.axes if ax.images}
    assert titles == {"Lamp  £5\n“new”, $5 to $6 "} and sum(bool(ax.images) for ax in figure.axes) == 7
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["no photo"]
    plt.close("all")
