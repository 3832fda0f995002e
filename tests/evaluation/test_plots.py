"""The plots of the notebooks."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from evaluation import plots

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


def test_pictures_can_be_drawn_from_few_rows_and_absent_classes():
    plots.plot_confusion_matrix(np.array([0, 1]), np.array([1, 1]), ["a", "b"])
    plots.plot_confusion_matrix(np.array([0, 0]), np.array([0, 0]), list("abcd"))
    table = pd.DataFrame({"model": "one", "train_listings": ["few", "many"], "listings": [1, 0]})
    plots.plot_by_train_listings(table.assign(test=[1.0, np.nan], error=np.nan), ["one"])
    plots.plot_reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    figure = plots.photo_grid(np.zeros((7, 8, 8, 3), np.uint8), ["is\nsaid"] * 7, columns=3, title="Seven")
    assert sum(bool(ax.images) for ax in figure.axes) == 7
    plt.close("all")
