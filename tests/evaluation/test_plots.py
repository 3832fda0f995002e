"""The plots of the notebooks."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import plots
from marketplace.dataset import SPLITS

matplotlib.use("Agg")


def test_confusion_matrix_shows_percentages_of_the_true_class_and_similar_ones_side_by_side():
    labels = np.repeat([0, 1, 2, 3], 10)
    predictions = labels.copy()
    predictions[:4], predictions[20:25] = 2, 0  # 0 and 2 are taken for each other, 1 and 3 never
    ax = plots.plot_confusion_matrix(labels, predictions, ["sofa", "drill", "armchair", "shoe"])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert abs(names.index("sofa") - names.index("armchair")) == 1
    shares = np.asarray(ax.images[0].get_array())
    assert shares.sum(axis=1) == pytest.approx(np.full(4, 100))
    assert shares[names.index("sofa"), names.index("armchair")] == pytest.approx(40)


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
    plots.plot_confusion_matrix(np.array([0, 1]), np.array([1, 1]), ["a", "b"])
    plots.plot_confusion_matrix(np.array([0, 0]), np.array([0, 0]), list("abcd"))
    table = pd.DataFrame({"model": "one", "train_listings": ["few", "many"], "listings": [1, 0]})
    plots.plot_by_train_listings(table.assign(test=[1.0, np.nan], error=np.nan), ["one"])
    plots.plot_reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    figure = plots.photo_grid(np.zeros((7, 8, 8, 3), np.uint8), ["is\nsaid"] * 7, columns=3, title="Seven")
    assert sum(bool(ax.images) for ax in figure.axes) == 7
    plt.close("all")
