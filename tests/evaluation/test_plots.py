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


def test_confusion_matrix_shows_percentages_of_the_true_class_in_the_order_of_the_names():
    labels = np.repeat([0, 1, 2, 3], 10)
    predictions = labels.copy()
    predictions[:4], predictions[20:25] = 2, 0  # 0 and 2 are taken for each other
    ax = plt.subplots()[1]
    plots.plot_confusion_matrix(labels, predictions, ["sofa", "drill", "armchair", "shoe"], ax, "Mistakes")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["sofa (10)", "drill (10)", "armchair (10)", "shoe (10)"]
    shares = np.asarray(ax.images[0].get_array())
    assert shares.sum(axis=1) == pytest.approx(np.full(4, 100))
    assert shares[0, 2] == pytest.approx(40)


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
    table = pd.DataFrame({"model": "one", "train_listings": ["few", "many"], "listings": [1, 0]})
    plots.plot_by_train_listings(table.assign(test=[1.0, np.nan], error=np.nan), ["one"], ["tab:red"])
    figure = plots.photo_grid(np.zeros((7, 8, 8, 3), np.uint8), ["is\nsaid"] * 7, columns=3, title="Seven")
    assert sum(bool(ax.images) for ax in figure.axes) == 7
    plt.close("all")


def test_what_the_font_lacks_is_left_out_of_captions():
    assert plots.drawable("Lamp 👍 £5\n“new”") == "Lamp  £5\n“new”"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.photo_grid([np.zeros((8, 8, 3), np.uint8)], ["⭐ $5 to $6 👍"]).canvas.draw()
    plt.close("all")
