"""models/soft_labels.py: the teacher never speaks of a listing it was fitted on; its labels are probabilities."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from models.batches import Batches, Texts
from models.leaf_categories import soft_leaf_labels
from models.training import train_one_epoch
from shallow.words import teacher_probabilities

WORDS = ("sofa cushion leather", "kettle toaster steam", "guitar strings amplifier")


def listings(count: int = 60) -> tuple[pd.DataFrame, Texts]:
    """Listings of three categories that words and embeddings tell apart; every fifth is not train."""
    codes = np.arange(count) % 3
    generator = np.random.default_rng(0)
    embeddings = generator.normal(0, 0.1, (count, 50, 768)).astype(np.float16)
    embeddings[np.arange(count), :, codes] += 1
    products = pd.DataFrame(
        {
            "main_category_code": codes,
            "text": [f"{WORDS[code]} number{row}" for row, code in enumerate(codes)],
            "group": [str(row) for row in range(count)],
            "split": ["test" if row % 5 == 0 else "train" for row in range(count)],
        }
    )
    return products, Texts.one_each(embeddings)


def test_the_teacher_knows_the_train_listings_and_says_nothing_of_others():
    products, texts = listings()
    probabilities = teacher_probabilities(products, texts)
    train = (products["split"] == "train").to_numpy()
    assert probabilities.shape == (60, 3) and probabilities.dtype == np.float32
    assert probabilities[train].sum(1) == pytest.approx(1, abs=1e-5)
    assert (probabilities[train].argmax(1) == products["main_category_code"][train]).all()
    assert not probabilities[~train].any()


def test_a_wrong_label_is_not_repeated_by_a_teacher_that_was_not_fitted_on_it():
    products, texts = listings()
    wrong = 1  # reads like a kettle
    products.loc[wrong, "main_category_code"] = 2
    probabilities = teacher_probabilities(products, texts)
    assert probabilities[wrong].argmax() == 1
    products["group"] = products["group"].replace({"4": "1"})  # its twin shares the fold, so it does not help either
    assert teacher_probabilities(products, texts)[wrong].argmax() == 1


def test_a_category_within_one_group_is_unknown_to_the_teacher_and_no_obstacle():
    products, texts = listings()
    products.loc[products["main_category_code"] == 2, "group"] = "one seller"
    probabilities = teacher_probabilities(products, texts)
    rows = (products["split"] == "train") & (products["main_category_code"] == 2)
    assert np.isfinite(probabilities).all() and (probabilities[rows, 2] < 0.01).all()


@pytest.mark.parametrize("trained", [0, 1])
def test_without_two_train_listings_it_says_the_labels(trained):
    products, texts = listings(6)
    products["split"] = ["train"] * trained + ["test"] * (6 - trained)
    probabilities = teacher_probabilities(products, texts)
    assert probabilities.sum() == trained and (probabilities[:trained, 0] == 1).all()


def test_soft_labels_by_hand():
    main_of_leaf = np.array([0, 0, 1])
    leaves = np.array([0, 0, 0, 1, 2])
    teacher = np.tile(np.array([[0.6, 0.4]], np.float32), (5, 1))
    targets = soft_leaf_labels(leaves, main_of_leaf, teacher, share=0.5)
    assert targets.dtype == np.float32 and targets.sum(1) == pytest.approx(1)
    assert targets[0] == pytest.approx([0.5 + 0.3, 0, 0.2])  # all of its own main category to the true leaf
    assert targets[4] == pytest.approx([0.3 * 0.75, 0.3 * 0.25, 0.5 + 0.2])  # the others as frequent as they are
    assert soft_leaf_labels(leaves, main_of_leaf, teacher, share=0.0) == pytest.approx(np.eye(3)[leaves])


def test_an_epoch_learns_from_probabilities_and_counts_by_the_likeliest():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]]))

        def forward(self, inputs):
            return inputs.float() @ self.logits

    model = Fixed()
    soft = np.array([[0.7, 0.3, 0], [0.2, 0.8, 0], [0.6, 0, 0.4]], np.float32)
    batches = Batches(np.eye(3, dtype=np.float32), np.arange(3), soft, batch_size=3)
    by_hand = -(torch.from_numpy(soft) * model.logits.log_softmax(1)).sum(1).mean().item()
    epoch = train_one_epoch(model, batches, torch.optim.SGD(model.parameters(), 0.1), None, torch.device("cpu"))
    assert epoch["loss"] == pytest.approx(by_hand, rel=1e-2)  # bfloat16 where the hardware has it
    assert epoch["accuracy"] == pytest.approx(2 / 3)
