"""The category of a listing by its words: TF-IDF and mean embeddings with logistic regression, and the two together.

The inputs are those of the networks: the same texts or embeddings, the same splits. The regularisation is chosen on the
validation split.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from marketplace.data_folder import UserError
from marketplace.listings import rows_of_split
from shallow.fusion import Fusion, fuse_products

TFIDF, MEAN_EMBEDDING = "TF-IDF + logistic regression", "mean embedding + logistic regression"
BOTH = "TF-IDF and mean embedding"
C_BOUNDS = (1e-4, 1e4)  # of the regressions' C, the inverse of the regularisation
MIN_LOG_PROBABILITY = np.log(1e-6)  # also of a category without a train listing


class WordVectorizer(TfidfVectorizer):
    """TF-IDF weighted words. Raises UserError when no text has a word to keep (only stop words or emoji)."""

    def fit_transform(self, raw_documents, y=None):
        try:
            return super().fit_transform(raw_documents, y)
        except ValueError:  # the only one: the vocabulary is empty, before or after rare words are left out
            raise UserError(
                "no text of train has a word that TF-IDF keeps: give more listings, or listings with other texts."
            ) from None


def tfidf_model() -> Pipeline:
    """Logistic regression on the TF-IDF weighted words of a text."""
    return make_pipeline(WordVectorizer(sublinear_tf=True, stop_words="english"), LogisticRegression(max_iter=1000))


def mean_embedding_model() -> Pipeline:
    """Logistic regression on mean embeddings (N, 768)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def log_probabilities(model: Pipeline | LogisticRegression, inputs, classes: int) -> np.ndarray:
    """Log probabilities (N, C) of all categories; at least `MIN_LOG_PROBABILITY`."""
    result = np.full((inputs.shape[0], classes), MIN_LOG_PROBABILITY)
    result[:, model.classes_] = np.maximum(model.predict_log_proba(inputs), MIN_LOG_PROBABILITY)
    return result


def fit_on_train(model: Pipeline, inputs: np.ndarray, products: pd.DataFrame) -> Pipeline:
    """`model` fitted on the train listings, with the C whose cross-entropy on validation is the lowest."""
    labels = products["main_category_code"].to_numpy(np.int64)
    train, validation = rows_of_split(products, "train"), rows_of_split(products, "validation")
    learnt = model[:-1].fit_transform(inputs[train])
    held_out = model[:-1].transform(inputs[validation])

    def loss(log_c: float) -> float:
        model[-1].set_params(C=np.exp(log_c)).fit(learnt, labels[train])
        logs = log_probabilities(model[-1], held_out, labels.max() + 1)
        return -float(logs[np.arange(len(validation)), labels[validation]].mean())

    with threadpool_limits(1):  # more threads only wait for each other on a busy machine
        loss(minimize_scalar(loss, bounds=np.log(C_BOUNDS), method="bounded", options={"xatol": 0.3}).x)
    return model


@dataclass
class ShallowText:
    """Two fitted models of a listing's words, and their fusion."""

    tfidf: Pipeline
    mean_embedding: Pipeline
    fusion: Fusion
    outputs: dict[str, np.ndarray]  # by TFIDF and MEAN_EMBEDDING log probabilities, by BOTH logits (N, C)
    seconds: dict[str, float]  # of the fits


def fit_shallow_text(products: pd.DataFrame, embeddings: np.ndarray, classes: int, seed: int = 7) -> ShallowText:
    """Fit both models on train, the second on the mean embedding (N, 768) of each product, and fuse them on validation.

    The outputs of both together are out of fold on the validation split.
    """
    texts = products["text"].to_numpy()
    start = time.perf_counter()
    tfidf = fit_on_train(tfidf_model(), texts, products)
    half = time.perf_counter()
    mean_embedding = fit_on_train(mean_embedding_model(), embeddings, products)
    outputs = [log_probabilities(tfidf, texts, classes), log_probabilities(mean_embedding, embeddings, classes)]
    fusion, together = fuse_products(outputs, products, seed)
    end = time.perf_counter()
    names = (TFIDF, MEAN_EMBEDDING, BOTH)
    seconds = dict(zip(names, (half - start, end - half, end - start), strict=True))
    return ShallowText(tfidf, mean_embedding, fusion, dict(zip(names, (*outputs, together), strict=True)), seconds)
