"""The category by words: baselines fitted on train only, and the teacher's out-of-fold probabilities."""

import numpy as np
import pandas as pd
import pytest

from evaluation.results import majority_predictions
from marketplace.data_folder import UserError
from shallow.words import mean_embedding_predictions, teacher_probabilities, tfidf_predictions

WORDS = ("sofa cushion leather", "kettle toaster steam", "guitar strings amplifier")


def listings(count: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    """Listings of three categories that words and mean embeddings separate; every fifth is not train."""
    codes = np.arange(count) % 3
    generator = np.random.default_rng(0)
    embeddings = generator.normal(0, 0.02, (count, 768))
    embeddings[np.arange(count), codes] += 1
    products = pd.DataFrame(
        {
            "main_category_code": codes,
            "text": [f"{WORDS[code]} number{row}" for row, code in enumerate(codes)],
            "group": [str(row) for row in range(count)],
            "split": ["test" if row % 5 == 0 else "train" for row in range(count)],
        }
    )
    return products, embeddings


def test_the_teacher_has_probabilities_for_train_listings_only():
    products, embeddings = listings()
    probabilities = teacher_probabilities(products, embeddings)
    train = (products["split"] == "train").to_numpy()
    assert probabilities.shape == (60, 3) and probabilities.dtype == np.float32
    assert probabilities[train].sum(1) == pytest.approx(1, abs=1e-5)
    assert (probabilities[train].argmax(1) == products["main_category_code"][train]).all()
    assert not probabilities[~train].any()


def test_the_teacher_of_a_listing_was_not_fitted_on_it():
    products, embeddings = listings()
    wrong = 1  # its words are those of a kettle
    products.loc[wrong, "main_category_code"] = 2
    probabilities = teacher_probabilities(products, embeddings)
    assert probabilities[wrong].argmax() == 1
    products["group"] = products["group"].replace({"4": "1"})  # its twin shares the fold, so it does not help either
    assert teacher_probabilities(products, embeddings)[wrong].argmax() == 1


def test_a_category_within_one_group_is_improbable_for_the_teacher():
    products, embeddings = listings()
    products.loc[products["main_category_code"] == 2, "group"] = "one seller"
    probabilities = teacher_probabilities(products, embeddings)
    rows = (products["split"] == "train") & (products["main_category_code"] == 2)
    assert np.isfinite(probabilities).all() and (probabilities[rows, 2] < 0.01).all()


@pytest.mark.parametrize("texts", [["the of and"], ["🎩 🔥", ""], ["a b c", "in on"]])
def test_texts_without_a_word_to_keep_are_one_sentence(texts):
    products, embeddings = listings()
    products["text"] = [texts[row % len(texts)] for row in range(len(products))]
    for compute in (tfidf_predictions, lambda table: teacher_probabilities(table, embeddings)):
        with pytest.raises(UserError, match=r"^no text of train has a word that TF-IDF keeps: .*\.$"):
            compute(products)


@pytest.mark.parametrize("trained", [0, 1])
def test_without_two_train_listings_the_probabilities_are_the_labels(trained):
    products, embeddings = listings(6)
    products["split"] = ["train"] * trained + ["test"] * (6 - trained)
    probabilities = teacher_probabilities(products, embeddings)
    assert probabilities.sum() == trained and (probabilities[:trained, 0] == 1).all()


def test_baselines_are_fitted_on_train_only():
    texts = ["red apple", "green apple", "blue boat", "old boat", "apple pie", "boat house", "apple", "boat"]
    table = pd.DataFrame(
        {
            "text": texts,
            "main_category_code": [0, 0, 1, 1, 0, 1, 0, 1],
            "split": ["train"] * 5 + ["validation", "test", "test"],
        }
    )
    embeddings = np.where(table["main_category_code"], 1.0, -1.0)[:, None].repeat(768, axis=1)
    swapped = table.assign(main_category_code=[0, 0, 1, 1, 0, 1, 1, 0])  # other labels on test change nothing
    assert majority_predictions(table).tolist() == [0] * 8
    for products in (table, swapped):
        assert tfidf_predictions(products).tolist() == table["main_category_code"].tolist()
        assert mean_embedding_predictions(products, embeddings).tolist() == table["main_category_code"].tolist()
