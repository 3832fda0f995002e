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
from marketplace.dataset import SPLITS

matplotlib.use("Agg")


def test_confusion_matrix_shows_percentages_of_the_true_class_in_the_order_of_the_names():
    labels = np.repeat([0, 1, 2, 3], 10)
    predictions = labels.copy()
    predictions[:4], predictions[20:25] = 2, 0  # 0 and 2 are taken for each other
    ax = plots.plot_confusion_matrix(labels, predictions, ["sofa", "drill", "armchair", "shoe"])
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
    plots.plot_confusion_matrix(np.array([0, 1]), np.array([1, 1]), ["a", "b"])
    plots.plot_confusion_matrix(np.array([0, 0]), np.array([0, 0]), list("abcd"))
    table = pd.DataFrame({"model": "one", "train_listings": ["few", "many"], "listings": [1, 0]})
    plots.plot_by_train_listings(table.assign(test=[1.0, np.nan], error=np.nan), ["one"], ["tab:red"])
    plots.plot_reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    figure = plots.photo_grid(np.zeros((7, 8, 8, 3), np.uint8), ["is\nsaid"] * 7, columns=3, title="Seven")
    assert sum(bool(ax.images) for ax in figure.axes) == 7
    plt.close("all")


def test_training_curves_mark_the_kept_epoch_and_name_the_examples():
    epoch = {"train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 2.0, "validation_accuracy": 0.4}
    figure = plots.plot_training([epoch, epoch, epoch], 1, {"train": 1200, "validation": 7}, "photo", "ImageModel")
    for ax in figure.axes:
        train, validation, kept = ax.lines
        assert (train.get_color(), validation.get_color()) == tuple(
            plots.SPLIT_COLOURS[split] for split in ("train", "validation")
        )
        assert set(kept.get_xdata()) == {2}
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [
        "train (n = 1,200)",
        "validation (n = 7)",
        "kept: epoch 2",
    ]
    plt.close(figure)


def test_who_is_right_counts_each_field_and_what_the_fusion_makes_of_it():
    text, photo = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 1], bool)
    ax = plots.plot_who_is_right(text, photo, np.array([1, 1, 0, 1, 0], bool), ("text", "photo", "both"))
    said = {field.get_position(): field.get_text() for field in ax.texts}
    assert said[0, 0] == "2 listings\nboth right: 2 (100%)" and said[1, 0] == "1 listings\nboth right: 0 (0%)"
    assert said[0, 1] == "2 listings\nboth right: 1 (50%)" and said[1, 1] == "0 listings\nboth right: 0"
    plt.close("all")


def test_occlusion_shows_the_words_that_count_most():
    falls = np.zeros((8, 8))
    words = {"a": 0.1, "lamp": 3.0, "not": -2.0, "for": 0.0, "red": 1.0}
    photos = [np.zeros((8, 8, 3), np.uint8)] * 2
    figure = plots.plot_occlusion(photos, [falls] * 2, [words, {"one": 1.0}], [("is", "is")] * 2, most=2, least=1)
    for ax, names in ((figure.axes[2], ["not", "red", "lamp"]), (figure.axes[5], ["one"])):
        assert [label.get_text() for label in ax.get_yticklabels()] == names
    plt.close(figure)


def test_cards_stand_beside_their_photos():
    figure = plots.listing_cards(np.zeros((3, 8, 8, 3), np.uint8), ["one\ntwo"] * 3)
    assert [bool(ax.images) for ax in figure.axes] == [True, False] * 3 + [False, False]
    assert [len(ax.texts) for ax in figure.axes] == [0, 1] * 3 + [0, 0]
    plt.close(figure)


def test_what_the_font_lacks_is_left_out_of_captions():
    assert plots.drawable("Lamp 👍 £5\n“new”") == "Lamp  £5\n“new”"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = [plots.photo_grid([np.zeros((8, 8, 3), np.uint8)], ["⭐ $5 to $6 👍"])]
        figures += [plots.listing_cards([np.zeros((8, 8, 3), np.uint8)], ["🔥 costs $5 to $6"])]
        for figure in figures:
            figure.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize("known", [{}, {"pixels": [64, 224]}, {"deviation": [None, 0.1]}])
def test_transfer_has_a_line_for_each_way_of_training(known):
    table = pd.DataFrame({"training": ["frozen", "fine-tuned"], "photos": [9, 90], "accuracy": [0.5, 0.6], **known})
    ax = plt.subplots()[1]
    plots.plot_transfer(table, "photos", "accuracy", ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == (["frozen, 64 pixels", "fine-tuned, 224 pixels"] if "pixels" in known else ["frozen", "fine-tuned"])
    plt.close("all")


def test_learning_curves_have_a_line_for_each_model():
    rows = [
        {"train listings": count, "model": model, "validation accuracy": 0.5, "deviation": None}
        for count in (10, 100)
        for model in ("TF-IDF + logistic regression", "TextModel")
    ]
    ax = plots.plot_learning_curve(pd.DataFrame(rows))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    assert len(ax.get_legend().get_texts()) == 2
    plt.close("all")
