"""The price of a listing from its words, category and place: ridge regression of the log price, with an 80% interval.

The model is the step `words` of tabular_linear_regression.ipynb. It leaves out the further steps: prices of the place
and a curved model bring nothing, and letters bring little and name nothing that a reader understands. It consists of
scikit-learn's own classes, so that skops loads it without trusting others.

A listing whose category is known only in part gets a regression that has learnt without the rest, since one that has
learnt with the leaf categories predicts badly without them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from marketplace.data_folder import UserError

LEAF, MAIN, NOTHING = "leaf category", "main category", "no category"  # what is known of a listing's category
KNOWN = (LEAF, MAIN, NOTHING)
COVERAGE = 0.8  # of the interval
ALPHAS = (0.5, 1, 2, 4)
LEAST_OF_CATEGORY = 100  # train listings of a main category with an interval of its own: its coverage is right to 4%
WORDS = {"sublinear_tf": True, "ngram_range": (1, 2)}
WEIGHTS = {"main category": 0.5, "leaf": 0.5}  # or three columns of 1 outweigh a text, whose columns have length 1


def price_parts(words: type[TfidfVectorizer] = TfidfVectorizer) -> dict[str, list[tuple]]:
    """The transformers that each step of the model adds; `words` is the class of those of the texts."""
    return {
        "main category": [("main category", OneHotEncoder(handle_unknown="ignore"), ["main_category"])],
        "place": [("place", StandardScaler(), ["latitude", "longitude"])],
        "leaf category": [("leaf", OneHotEncoder(handle_unknown="ignore", min_frequency=2), ["level_2", "category"])],
        "words": [("name", words(**WORDS), "product_name"), ("text", words(**WORDS, min_df=2), "text")],
    }


def price_features(parts: Iterable[list[tuple]]) -> ColumnTransformer:
    """The columns of several steps side by side."""
    return ColumnTransformer([transformer for part in parts for transformer in part], transformer_weights=WEIGHTS)


def with_category(products: pd.DataFrame, known: str = LEAF) -> pd.DataFrame:
    """The listings with as much of their category as is `known`, and its first two levels as `level_2`.

    What is unknown is empty: no category of train, so that all its columns are 0.
    """
    if known != LEAF:
        main = products["main_category"] if known == MAIN else ""
        products = products.assign(main_category=main, category=main)
    return products.assign(level_2=products["category"].str.split(" / ").str[:2].str.join(" / "))


@dataclass
class PriceFit:
    """A fitted regression of the log price for each of `KNOWN`, what is known of a listing's category."""

    features: ColumnTransformer  # from a table of listings to the columns of all regressions
    ridges: dict[str, Ridge]
    residuals: dict[str, np.ndarray]  # (N,) log pounds, true less out-of-fold prediction, of the train listings
    half_widths: dict[str, dict[str, float]]  # of the interval in log pounds by main category; "" is all others

    def predict(self, products: pd.DataFrame, known: str = LEAF) -> tuple[np.ndarray, np.ndarray]:
        """Log prices (N,) of listings, and how far their intervals reach to either side (N,), in log pounds."""
        listings = with_category(products, known)
        widths = self.half_widths[known]
        reach = [widths.get(name, widths[""]) for name in listings["main_category"]]
        return self.ridges[known].predict(self.features.transform(listings)), np.array(reach)


def half_width(residuals: np.ndarray, coverage: float = COVERAGE) -> float:
    """The bound that the absolute residual of a new listing does not exceed with probability `coverage`.

    A quantile of out-of-fold residuals (N,), corrected for their finite number. Source: Barber et al., Predictive
    inference with the jackknife+, 2021 (the K-fold form, around the prediction of the model of all train listings).
    """
    level = min(1.0, np.ceil((len(residuals) + 1) * coverage) / len(residuals))
    return float(np.quantile(np.abs(residuals), level, method="higher"))


def half_widths(residuals: np.ndarray, main_categories: np.ndarray) -> dict[str, float]:
    """`half_width` of all listings as "", and of each main category with at least `LEAST_OF_CATEGORY` of them."""
    own = pd.Series(residuals).groupby(np.asarray(main_categories))
    large = {str(name): half_width(of.to_numpy()) for name, of in own if len(of) >= LEAST_OF_CATEGORY}
    return large | {"": half_width(residuals)}


def fit_price_model(products: pd.DataFrame, seed: int = 7, folds: int = 5) -> PriceFit:
    """The regressions fitted on the train listings; alpha is chosen, and residuals are taken, on folds that keep equal
    descriptions together.

    `products` is the table of `load_products`. Raises UserError when no text of train has a word that is kept.
    """
    train = products[products["split"] == "train"]
    log_price = np.log(train["price"].to_numpy())
    splitter = GroupKFold(max(2, min(folds, train["group"].nunique() // 2)), shuffle=True, random_state=seed)
    out_of_fold = {known: {alpha: np.empty(len(train)) for alpha in ALPHAS} for known in KNOWN}
    for fitted, held_out in splitter.split(train, groups=train["group"]):
        features = _fit_features(train.iloc[fitted])
        for known, predictions in out_of_fold.items():
            columns = features.transform(with_category(train, known))
            for alpha in ALPHAS:
                ridge = Ridge(alpha).fit(columns[fitted], log_price[fitted])
                predictions[alpha][held_out] = ridge.predict(columns[held_out])
    fit = PriceFit(_fit_features(train), {}, {}, {})
    for known, predictions in out_of_fold.items():
        alpha = min(ALPHAS, key=lambda alpha: float(np.sum((log_price - predictions[alpha]) ** 2)))
        listings = with_category(train, known)
        fit.ridges[known] = Ridge(alpha).fit(fit.features.transform(listings), log_price)
        fit.residuals[known] = log_price - predictions[alpha]
        fit.half_widths[known] = half_widths(fit.residuals[known], listings["main_category"].to_numpy())
    return fit


def _fit_features(train: pd.DataFrame) -> ColumnTransformer:
    try:
        return price_features(price_parts().values()).fit(with_category(train))
    except ValueError:  # the only one: the vocabulary is empty, before or after rare words are left out
        raise UserError(
            "no text of train has a word that TF-IDF keeps: give more listings, or listings with other texts."
        ) from None
