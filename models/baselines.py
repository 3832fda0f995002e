"""What a network is compared with, and the rows in which it is compared.

The baselines see what the networks see: the same texts or embeddings, the same splits. How strongly a regression is
regularised is chosen on the validation split, as everything of the networks is.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.evaluation import accuracy, classification_metrics, macro_f1
from models.product_dataset import SPLITS, Texts, mean_by_product, mean_embeddings, rows_of_split

TFIDF_STRENGTHS = (3.0, 10.0, 30.0)
EMBEDDING_STRENGTHS = (0.003, 0.01, 0.03)


def majority_predictions(products: pd.DataFrame) -> np.ndarray:
    """The most frequent category of the train split, for every product (N,)."""
    labels = products["main_category_code"].to_numpy(np.int64)
    return np.full(len(labels), np.bincount(labels[rows_of_split(products, "train")]).argmax())


def tfidf_model(strength: float) -> Pipeline:
    """Logistic regression on the TF-IDF weighted words of a text; the greater `strength`, the less regularised."""
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    return make_pipeline(words, LogisticRegression(C=strength, max_iter=1000))


def mean_embedding_model(strength: float) -> Pipeline:
    """Logistic regression on mean embeddings (N, 768); the greater `strength`, the less regularised."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def tfidf_predictions(products: pd.DataFrame, strengths: Sequence[float] = TFIDF_STRENGTHS) -> np.ndarray:
    """Categories (N,) by a logistic regression on TF-IDF weighted words of name and description."""
    return _best_on_validation([tfidf_model(s) for s in strengths], products["text"].to_numpy(), products)


def mean_embedding_predictions(
    products: pd.DataFrame, texts: Texts, strengths: Sequence[float] = EMBEDDING_STRENGTHS
) -> np.ndarray:
    """Categories (N,) by a logistic regression on the mean of the embedded tokens of each product's windows."""
    means = product_embeddings(texts, len(products))
    return _best_on_validation([mean_embedding_model(s) for s in strengths], means, products)


def product_embeddings(texts: Texts, products: int) -> np.ndarray:
    """Mean (N, 768) of the embedded tokens of each product's windows."""
    return mean_by_product(mean_embeddings(texts.embeddings), texts.product_rows, products)


def _best_on_validation(models: Sequence[ClassifierMixin], inputs: np.ndarray, products: pd.DataFrame) -> np.ndarray:
    """What the model that does best on validation, after fitting on train, says about every input."""
    labels = products["main_category_code"].to_numpy(np.int64)
    train, validation = rows_of_split(products, "train"), rows_of_split(products, "validation")
    fitted = [model.fit(inputs[train], labels[train]) for model in models]
    return max(fitted, key=lambda model: model.score(inputs[validation], labels[validation])).predict(inputs)


def result_rows(
    model: str,
    products: pd.DataFrame,
    predictions: np.ndarray,
    seconds: float,
    *,
    product_rows: np.ndarray | None = None,
    seed: int = 0,
) -> list[dict]:
    """Rows of accuracy and macro-F1 for `predictions`, one each product (N,), or one each photo with its product in
    `product_rows` (P,); the test figures with intervals over products, and the majority's beside them.

    Empty when a split has no prediction.
    """
    product_rows = np.arange(len(products)) if product_rows is None else product_rows
    split_of_row = products["split"].to_numpy()[product_rows]
    if set(SPLITS) - set(split_of_row):
        return []
    labels = products["main_category_code"].to_numpy(np.int64)[product_rows]
    held, tested = split_of_row == "validation", split_of_row == "test"
    majority = majority_predictions(products)[product_rows]
    scores = classification_metrics(labels[tested], predictions[tested], product_rows[tested], seed)
    return [
        {
            "task": "category",
            "model": model,
            "metric": metric,
            "validation": function(labels[held], predictions[held]),
            "test": scores[key],
            "test_interval": scores[f"{key}_interval"],
            "baseline": function(labels[tested], majority[tested]),
            "seconds": seconds,
        }
        for metric, key, function in (("accuracy", "accuracy", accuracy), ("macro-F1", "macro_f1", macro_f1))
    ]
