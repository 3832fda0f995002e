"""Soft labels: what two shallow models say about train listings that they were not fitted on.

A label says only which category is right. The probabilities of models that read differently, words counted and
embeddings averaged, also say how doubtful a listing is and between which categories; a network that learns from both
does better than one that learns from labels alone (source: Hinton, Vinyals and Dean, Distilling the Knowledge in a
Neural Network, 2015).
"""

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.model_selection import GroupKFold

from models.baselines import mean_embedding_model, product_embeddings, tfidf_model
from models.product_dataset import Texts, rows_of_split

FOLDS = 5
TFIDF_STRENGTH = 10.0
EMBEDDING_STRENGTH = 0.01


def teacher_probabilities(products: pd.DataFrame, texts: Texts) -> np.ndarray:
    """Probabilities (N, C) float32 of the main categories for the train listings, each by models that were fitted on
    the train listings of the other folds; equal descriptions share a fold. Rows of the other splits are zero.

    The teacher is the geometric mean of the two text baselines. With fewer than two descriptions in train there are no
    other folds, and it says the labels.
    """
    labels = products["main_category_code"].to_numpy(np.int64)
    train = rows_of_split(products, "train")
    classes = labels.max() + 1
    logs = np.zeros((len(products), classes))
    inputs = (
        (products["text"].to_numpy(), tfidf_model(TFIDF_STRENGTH)),
        (product_embeddings(texts, len(products)), mean_embedding_model(EMBEDDING_STRENGTH)),
    )
    groups = products["group"].to_numpy()[train]
    if len(set(groups)) < 2:
        return (np.eye(classes)[labels] * (products["split"] == "train").to_numpy()[:, None]).astype(np.float32)
    folds = GroupKFold(min(FOLDS, len(set(groups)))).split(train, groups=groups)
    for fitted, asked in ((train[fitted], train[asked]) for fitted, asked in folds):
        for values, model in inputs:
            logs[asked] += np.log(_probabilities(model, values, labels, fitted, asked, classes)) / len(inputs)
    probabilities = np.zeros((len(products), classes), np.float32)
    probabilities[train] = softmax(logs[train], axis=1)
    return probabilities


def _probabilities(
    model: ClassifierMixin, inputs: np.ndarray, labels: np.ndarray, fitted: np.ndarray, asked: np.ndarray, classes: int
) -> np.ndarray:
    """What `model`, fitted on some rows, says about others (len(asked), classes); never quite 0."""
    known = np.unique(labels[fitted])
    said = np.zeros((len(asked), classes))
    said[:, known] = model.fit(inputs[fitted], labels[fitted]).predict_proba(inputs[asked]) if len(known) > 1 else 1.0
    return np.maximum(said, 1e-6)


def soft_leaf_labels(leaves: np.ndarray, main_of_leaf: np.ndarray, teacher: np.ndarray, share: float) -> np.ndarray:
    """Targets (N, L) float32 of a cross-entropy over leaves: 1 - `share` for the true leaf (N,) of each row, and
    `share` for what the `teacher` (N, C) says of its main categories.

    What goes to the true main category goes to the true leaf; what goes to another is spread over its leaves as they
    are frequent.
    """
    rows = np.arange(len(leaves))
    frequencies = np.bincount(leaves, minlength=len(main_of_leaf)).astype(np.float64)
    frequencies /= np.bincount(main_of_leaf, frequencies)[main_of_leaf]
    targets = teacher[:, main_of_leaf] * frequencies
    true = main_of_leaf[leaves]
    targets[main_of_leaf == true[:, None]] = 0
    targets[rows, leaves] = teacher[rows, true]
    targets *= share / targets.sum(axis=1, keepdims=True)
    targets[rows, leaves] += 1 - share
    return targets.astype(np.float32)
