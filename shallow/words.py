"""The category of a listing by its words: TF-IDF or mean embeddings with logistic regression.

These models see what the networks see: the same texts or embeddings, the same splits. How strongly a regression is
regularised is chosen on the validation split, as everything of the networks is.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from marketplace.data_folder import UserError
from marketplace.dataset import rows_of_split

TFIDF_C = (3.0, 10.0, 30.0)
EMBEDDING_C = (0.003, 0.01, 0.03)
TEACHER_C = {"tfidf": 10.0, "embedding": 0.01}
TEACHER_FOLDS = 5


class Words(TfidfVectorizer):
    """TF-IDF weighted words. Raises UserError when no text has a word to keep: of stop words or emoji alone, say."""

    def fit_transform(self, raw_documents, y=None):
        try:
            return super().fit_transform(raw_documents, y)
        except ValueError:  # the only one: the vocabulary is empty, before or after rare words are left out
            raise UserError(
                "no text of train has a word that TF-IDF keeps: give more listings, or listings with other texts."
            ) from None


def tfidf_model(C: float) -> Pipeline:
    """Logistic regression on the TF-IDF weighted words of a text; `C` is the inverse of the regularisation."""
    words = Words(sublinear_tf=True, stop_words="english")
    return make_pipeline(words, LogisticRegression(C=C, max_iter=1000))


def mean_embedding_model(C: float) -> Pipeline:
    """Logistic regression on mean embeddings (N, 768); `C` is the inverse of the regularisation."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def tfidf_predictions(products: pd.DataFrame, grid: Sequence[float] = TFIDF_C) -> np.ndarray:
    """Categories (N,) by a logistic regression on TF-IDF weighted words of name and description."""
    return _best_on_validation([tfidf_model(C) for C in grid], products["text"].to_numpy(), products)


def mean_embedding_predictions(
    products: pd.DataFrame, embeddings: np.ndarray, grid: Sequence[float] = EMBEDDING_C
) -> np.ndarray:
    """Categories (N,) by a logistic regression on the mean embedding (N, 768) of each product."""
    return _best_on_validation([mean_embedding_model(C) for C in grid], embeddings, products)


def _best_on_validation(models: Sequence[ClassifierMixin], inputs: np.ndarray, products: pd.DataFrame) -> np.ndarray:
    """Predictions (N,) of the model that is best on validation after it was fitted on train."""
    labels = products["main_category_code"].to_numpy(np.int64)
    train, validation = rows_of_split(products, "train"), rows_of_split(products, "validation")
    fitted = [model.fit(inputs[train], labels[train]) for model in models]
    return max(fitted, key=lambda model: model.score(inputs[validation], labels[validation])).predict(inputs)


def teacher_probabilities(products: pd.DataFrame, embeddings: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities (N, C) float32 of the main categories for the train listings; other rows are zero.

    The teacher is the geometric mean of the two models above, TF-IDF and mean embeddings (N, 768), each fitted on the
    train listings of the other folds; equal descriptions share a fold. With fewer than two different descriptions in
    train there are no other folds, and the probabilities are the labels.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
    """
    labels = products["main_category_code"].to_numpy(np.int64)
    train = rows_of_split(products, "train")
    classes = labels.max() + 1
    groups = products["group"].to_numpy()[train]
    if len(set(groups)) < 2:
        return (np.eye(classes)[labels] * (products["split"] == "train").to_numpy()[:, None]).astype(np.float32)
    inputs = (
        (products["text"].to_numpy(), tfidf_model(TEACHER_C["tfidf"])),
        (embeddings, mean_embedding_model(TEACHER_C["embedding"])),
    )
    logs = np.zeros((len(products), classes))
    for fitted, held_out in GroupKFold(min(TEACHER_FOLDS, len(set(groups)))).split(train, groups=groups):
        for values, model in inputs:
            probabilities = _probabilities(model, values, labels, train[fitted], train[held_out], classes)
            logs[train[held_out]] += np.log(probabilities) / len(inputs)
    teacher = np.zeros((len(products), classes), np.float32)
    teacher[train] = softmax(logs[train], axis=1)
    return teacher


def _probabilities(
    model: ClassifierMixin,
    inputs: np.ndarray,
    labels: np.ndarray,
    fitted: np.ndarray,
    held_out: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Probabilities (len(held_out), classes) of rows by `model` fitted on others; at least 1e-6."""
    known = np.unique(labels[fitted])
    found = np.zeros((len(held_out), classes))
    found[:, known] = (
        model.fit(inputs[fitted], labels[fitted]).predict_proba(inputs[held_out]) if len(known) > 1 else 1.0
    )
    return np.maximum(found, 1e-6)
