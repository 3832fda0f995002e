"""models/pictures.py: the pictures of the neural notebook."""

import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from evaluation.plots import SPLIT_COLOURS
from models import pictures

matplotlib.use("Agg")


def test_training_curves_mark_the_kept_epoch_and_name_the_examples():
    epoch = {"train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 2.0, "validation_accuracy": 0.4}
    figure = pictures.plot_training([epoch, epoch, epoch], 1, {"train": 1200, "validation": 7}, "photo", "ImageModel")
    for ax in figure.axes:
        train, validation, kept = ax.lines
        assert (train.get_color(), validation.get_color()) == tuple(
            SPLIT_COLOURS[split] for split in ("train", "validation")
        )
        assert set(kept.get_xdata()) == {2}
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [
        "train (n = 1,200)",
        "validation (n = 7)",
        "kept: epoch 2",
    ]
    plt.close(figure)


@pytest.mark.parametrize("known", [{}, {"pixels": [64, 224]}, {"deviation": [None, 0.1]}])
def test_transfer_has_a_line_for_each_way_of_training(known):
    table = pd.DataFrame({"training": ["frozen", "fine-tuned"], "photos": [9, 90], "accuracy": [0.5, 0.6], **known})
    ax = plt.subplots()[1]
    pictures.plot_transfer(table, "photos", "accuracy", ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == (["frozen, 64 pixels", "fine-tuned, 224 pixels"] if "pixels" in known else ["frozen", "fine-tuned"])
    plt.close("all")


def test_who_is_right_counts_each_field_and_what_the_fusion_makes_of_it():
    text, photo = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 1], bool)
    ax = pictures.plot_who_is_right(text, photo, np.array([1, 1, 0, 1, 0], bool), ("text", "photo", "both"))
    said = {field.get_position(): field.get_text() for field in ax.texts}
    assert said[0, 0] == "2 listings\nboth right: 2 (100%)" and said[1, 0] == "1 listings\nboth right: 0 (0%)"
    assert said[0, 1] == "2 listings\nboth right: 1 (50%)" and said[1, 1] == "0 listings\nboth right: 0"
    plt.close("all")


def test_learning_curves_have_a_line_for_each_model():
    rows = [
        {"train listings": count, "model": model, "validation accuracy": 0.5, "deviation": None}
        for count in (10, 100)
        for model in ("TF-IDF + logistic regression", "TextModel")
    ]
    ax = pictures.plot_learning_curve(pd.DataFrame(rows))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    assert len(ax.get_legend().get_texts()) == 2
    plt.close("all")


def test_cards_stand_beside_their_photos():
    figure = pictures.listing_cards(np.zeros((3, 8, 8, 3), np.uint8), ["one\ntwo"] * 3)
    assert [bool(ax.images) for ax in figure.axes] == [True, False] * 3 + [False, False]
    assert [len(ax.texts) for ax in figure.axes] == [0, 1] * 3 + [0, 0]
    plt.close(figure)


def test_occlusion_shows_the_words_that_count_most():
    falls = np.zeros((8, 8))
    words = {"a": 0.1, "lamp": 3.0, "not": -2.0, "for": 0.0, "red": 1.0}
    photos = [np.zeros((8, 8, 3), np.uint8)] * 2
    figure = pictures.plot_occlusion(photos, [falls] * 2, [words, {"one": 1.0}], [("is", "is")] * 2, most=2, least=1)
    for ax, names in ((figure.axes[2], ["not", "red", "lamp"]), (figure.axes[5], ["one"])):
        assert [label.get_text() for label in ax.get_yticklabels()] == names
    plt.close(figure)


def test_what_the_font_lacks_is_left_out_of_cards():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.listing_cards([np.zeros((8, 8, 3), np.uint8)], ["🔥 costs $5 to $6"]).canvas.draw()
    plt.close("all")


def test_reliability_shows_each_bin_before_and_after_calibration():
    before, after = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[0.7, 0.3], [0.5, 0.5]])
    ax = plt.subplots()[1]
    pictures.plot_reliability(after, np.array([0, 1]), before, 5, ax, "TextModel", "red")
    _, dashed, line = ax.lines
    assert (dashed.get_xdata()[-1], dashed.get_ydata()[-1]) == pytest.approx((0.85, 0.5))
    assert np.nansum(line.get_ydata()) == 1 and set(line.get_xdata()[~np.isnan(line.get_xdata())]) == {0.5, 0.7}
    assert ax.get_title().startswith("TextModel\nexpected calibration error ")
    plt.close("all")
