"""The price of a listing"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from evaluation.metrics import log_r_squared
from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.gazetteer import Gazetteer
from marketplace.listing_text import clean_line, compared_text, query_text
from marketplace.listings import rows_of_split
from shallow.saving import load_model, save_model

LEAF, MAIN, NOTHING = "leaf category", "main category", "no category"  # what is known of a listing's category
KNOWN = (LEAF, MAIN, NOTHING)
COVERAGE = 0.8  # of the interval
ALPHAS = (0.5, 1, 2, 4)
LEAST_OF_CATEGORY = 100  # train listings of a main category with an interval of its own: its coverage is right to 4%
WORDS = {"sublinear_tf": True, "ngram_range": (1, 2)}
WEIGHTS = {"main category": 0.5, "leaf": 0.5}  # or three columns of 1 outweigh a text, whose columns have length 1
PRICE_MODEL = "price_model.skops"  # in checkpoints/
FACTORS = 5
END_OF_NAME = re.compile(r"\. |\n")  # of the name in a text of name and description


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


@dataclass(frozen=True)
class Factor:
    """A word (or two), the category or the place of a listing, and the factor that it puts on the price."""

    feature: str
    factor: float


@dataclass(frozen=True)
class PriceEstimate:
    """A price in pounds; the true one lies from `low` to `high` with probability `coverage`."""

    price: float
    low: float
    high: float
    coverage: float
    category: str | None  # as far as the estimate uses it
    location: str | None
    factors: list[Factor]  # those that move the estimate most, the strongest first


@dataclass
class PriceModel:
    """A fitted price model, and what it knows of the train listings."""

    fit: PriceFit
    categories: dict[tuple[str, ...], str]  # category or main category of train by its parts, as `_parts` gives them
    labels: list[str]  # main categories
    locations: list[str]
    place: list[float]  # mean latitude and longitude, degrees

    @cached_property
    def gazetteer(self) -> Gazetteer:  # takes a second, and only a location needs it
        return Gazetteer(self.locations)

    @cached_property
    def columns(self) -> np.ndarray:
        """Names (D,) of the columns of the regressions."""
        return self.fit.features.get_feature_names_out()

    def estimate(self, text: str, category: str | None = None, location: str | None = None) -> PriceEstimate:
        """The price of a listing with this name and description; without a category, by words and place alone.

        A category is a main category, a path of train or its first and last part (`Home & Garden / Mirrors`); capitals
        do not matter. Of one that train does not know, the main category is used. Without a location, the place does
        not move the price.

        Raises QueryError as `query_text`, and when the main category is unknown or the location is not found.
        """
        words = query_text(text)
        path = None if category is None else self._category(category)
        known = NOTHING if path is None else MAIN if path in self.labels else LEAF
        latitude, longitude = self.place if location is None else self._place(location)
        listing = pd.DataFrame(
            {
                "product_name": [END_OF_NAME.split(words, maxsplit=1)[0]],
                "text": [words],
                "category": [path or ""],
                "main_category": [(path or "").split(" / ")[0]],
                "latitude": [latitude],
                "longitude": [longitude],
            }
        )
        log_price, reach = (float(values[0]) for values in self.fit.predict(listing, known))
        return PriceEstimate(
            price=float(np.exp(log_price)),
            low=float(np.exp(log_price - reach)),
            high=float(np.exp(log_price + reach)),
            coverage=COVERAGE,
            category=path,
            location=location,
            factors=self.factors(listing, known, {"category": path, "place": location})[:FACTORS],
        )

    def factors(self, listing: pd.DataFrame, known: str, names: dict[str, str | None]) -> list[Factor]:
        """The factors of one listing, the strongest first; their product with the exponential of the intercept is the
        price.

        `names` are the values of category and place. All columns of a category, or of a word, are one factor.
        """
        values = csr_matrix(self.fit.features.transform(with_category(listing, known))).tocoo()
        effects: dict[str, float] = {}
        for column, effect in zip(values.col, values.data * self.fit.ridges[known].coef_[values.col], strict=True):
            part, _, word = self.columns[column].partition("__")
            part = {"main category": "category", "leaf": "category"}.get(part, part)
            feature = f"{part}: {names[part]}" if part in names else word
            effects[feature] = effects.get(feature, 0.0) + float(effect)
        strongest = sorted(effects.items(), key=lambda item: (-abs(item[1]), item[0]))
        return [Factor(feature, float(np.exp(effect))) for feature, effect in strongest if abs(effect) > 1e-9]

    def _category(self, category: str) -> str:
        parts = _parts(category)
        for place in (parts, parts[:1] + parts[-1:], parts[:1]):
            if place in self.categories:
                return self.categories[place]
        raise QueryError(
            f"no listing of train is in the category {category[:80]!r}: choose one of {'; '.join(self.labels)}, or a "
            "path below one."
        )

    def _place(self, location: str) -> list[float]:
        place = self.gazetteer.locate(clean_line(location))
        if place is None:
            raise QueryError(
                f"no place is known as {location[:80]!r}: write it as in a listing, e.g. 'Reading, Berkshire', or "
                "leave it out."
            )
        return [place.latitude, place.longitude]


def _parts(category: str) -> tuple[str, ...]:
    return tuple(compared_text(part.strip()).casefold() for part in clean_line(category).split(" / "))


def save_price_model(folder: DataFolder, fit: PriceFit, products: pd.DataFrame, seed: int) -> Path:
    """Write `checkpoints/price_model.skops`: a fit to the train listings of `products`, what they were, and its scores
    on validation."""
    train, validation = (products.iloc[rows_of_split(products, split)] for split in ("train", "validation"))
    predicted, reach = fit.predict(validation)
    true = validation["price"].to_numpy()
    content = {
        "labels": sorted(train["main_category"].unique().tolist()),
        "fit": vars(fit),
        "categories": train["category"].value_counts().index.tolist(),  # the most frequent first
        "locations": train["location"].tolist(),
        "place": train[["latitude", "longitude"]].mean().tolist(),
        "seed": seed,
        "train_listings": len(train),
        "validation": {
            "R2, log pounds": log_r_squared(true, np.exp(predicted)),
            "coverage": float(np.mean(np.abs(np.log(true) - predicted) <= reach)),
        },
    }
    path = folder.checkpoints / PRICE_MODEL
    save_model(path, content)
    return path


def load_price_model(folder: DataFolder) -> PriceModel:
    """The price model of a data folder; raises UserError when its file is missing, damaged or of another kind."""
    path, made_by = folder.checkpoints / PRICE_MODEL, "tabular_linear_regression.ipynb"
    content = load_model(path, "fit", "categories", "locations", "place", made_by=made_by)
    try:
        labels, leaves = content["labels"], content["categories"]
        paths = {_parts(label): label for label in labels}
        for leaf in leaves:
            parts = _parts(leaf)
            paths.setdefault(parts[:1] + parts[-1:], leaf)  # the most frequent path with these ends
        paths |= {_parts(leaf): leaf for leaf in leaves}
        model = PriceModel(PriceFit(**content["fit"]), paths, labels, content["locations"], content["place"])
        tried = [model.estimate("table", category) for category in (None, labels[0], leaves[0])]
        if not np.isfinite([value for found in tried for value in (found.low, found.price, found.high)]).all():
            raise ValueError("a number that is not finite")
    except Exception:  # whatever a file of another kind leads to
        raise UserError(f"the model {path} is of another kind: run {made_by} again.") from None
    return model
