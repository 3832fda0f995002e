"""The price of a listing: a ridge regression of the log price, with intervals, for tables and for one listing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.gazetteer import locate
from marketplace.listing_text import clean_line, joined_text, query_parts
from marketplace.listings import main_of
from shallow.saving import load_model, save_model
from shallow.words import WordVectorizer


class CategoryLevel(StrEnum):
    """How much of a listing's category is given; there is a regression for each."""

    LEAF = "leaf category"
    MAIN = "main category"
    NONE = "no category"


COVERAGE = 0.8  # of the interval
ALPHAS = (0.5, 1, 2, 4)
MIN_LISTINGS = 100  # of a main category with an interval of its own: its coverage is right to 4%
WORDS = {"sublinear_tf": True, "ngram_range": (1, 2)}
WEIGHTS = {"main category": 0.5, "leaf": 0.5}  # or three columns of 1 outweigh a text, whose columns have length 1
FACTORS = 5

PRICE_PARTS: dict[str, list[tuple]] = {  # the transformers that each step of the model adds
    "main category": [("main category", OneHotEncoder(handle_unknown="ignore"), ["main_category"])],
    "place": [("place", StandardScaler(), ["latitude", "longitude"])],
    "leaf category": [("leaf", OneHotEncoder(handle_unknown="ignore", min_frequency=2), ["level_2", "category"])],
    "words": [
        ("name", WordVectorizer(**WORDS), "product_name"),
        ("text", WordVectorizer(**WORDS, min_df=2), "text"),
    ],
}


def price_features(parts: Iterable[list[tuple]] = tuple(PRICE_PARTS.values())) -> ColumnTransformer:
    """The columns of several steps side by side."""
    return ColumnTransformer([transformer for part in parts for transformer in part], transformer_weights=WEIGHTS)


def with_category(products: pd.DataFrame, level: str = CategoryLevel.LEAF) -> pd.DataFrame:
    """The listings with their category up to `level`, and its first two parts as `level_2`.

    What is left out is empty: no category of the training data, so that all its columns are 0.
    """
    if level != CategoryLevel.LEAF:
        main = products["main_category"] if level == CategoryLevel.MAIN else ""
        products = products.assign(main_category=main, category=main)
    return products.assign(level_2=products["category"].str.split(" / ").str[:2].str.join(" / "))


@dataclass
class PriceFit:
    """A fitted regression of the log price for each CategoryLevel."""

    features: ColumnTransformer  # from a table of listings to the columns of all regressions
    ridges: dict[str, Ridge]
    residuals: dict[str, np.ndarray]  # (N,) log pounds, true less out-of-fold prediction, of the train listings
    half_widths: dict[str, dict[str, float]]  # of the interval in log pounds by main category; "" is all others

    def predict(self, products: pd.DataFrame, level: str = CategoryLevel.LEAF) -> tuple[np.ndarray, np.ndarray]:
        """Log prices (N,) of listings, and the half-widths (N,) of their intervals, in log pounds."""
        listings = with_category(products, level)
        widths = self.half_widths[level]
        own = [widths.get(name, widths[""]) for name in listings["main_category"]]
        return self.ridges[level].predict(self.features.transform(listings)), np.array(own)


def half_width(residuals: np.ndarray, coverage: float = COVERAGE) -> float:
    """The bound that the absolute residual of a new listing does not exceed with probability `coverage`.

    A quantile of out-of-fold residuals (N,), corrected for their finite number. Source: Barber et al., Predictive
    inference with the jackknife+, 2021 (the K-fold form, around the prediction of the model of all train listings).
    """
    share = min(1.0, np.ceil((len(residuals) + 1) * coverage) / len(residuals))
    return float(np.quantile(np.abs(residuals), share, method="higher"))


def half_widths(residuals: np.ndarray, main_categories: np.ndarray) -> dict[str, float]:
    """`half_width` of all listings as "", and of each main category with at least `MIN_LISTINGS` of them."""
    groups = pd.Series(residuals).groupby(np.asarray(main_categories))
    large = {str(name): half_width(group.to_numpy()) for name, group in groups if len(group) >= MIN_LISTINGS}
    return large | {"": half_width(residuals)}


def fit_price_model(products: pd.DataFrame, seed: int = 7, folds: int = 5) -> PriceFit:
    """The regressions fitted on the train listings; alpha is chosen, and residuals are taken, on folds that keep equal
    descriptions together.

    `products` is the table of `load_products`. Raises UserError when no text of train has a word that is kept.
    """
    train = products[products["split"] == "train"]
    if train["group"].nunique() < 2:
        raise UserError("the train split has fewer than two different descriptions: give more listings.")
    log_price = np.log(train["price"].to_numpy())
    splitter = GroupKFold(max(2, min(folds, train["group"].nunique() // 2)), shuffle=True, random_state=seed)
    levels = [level.value for level in CategoryLevel]
    out_of_fold = {level: {alpha: np.empty(len(train)) for alpha in ALPHAS} for level in levels}
    for fitted, held_out in splitter.split(train, groups=train["group"]):
        features = price_features().fit(with_category(train.iloc[fitted]))
        for level, predictions in out_of_fold.items():
            columns = features.transform(with_category(train, level))
            for alpha in ALPHAS:
                ridge = Ridge(alpha).fit(columns[fitted], log_price[fitted])
                predictions[alpha][held_out] = ridge.predict(columns[held_out])
    fit = PriceFit(price_features().fit(with_category(train)), {}, {}, {})
    for level, predictions in out_of_fold.items():
        alpha = min(ALPHAS, key=lambda alpha: float(np.sum((log_price - predictions[alpha]) ** 2)))
        listings = with_category(train, level)
        fit.ridges[level] = Ridge(alpha).fit(fit.features.transform(listings), log_price)
        fit.residuals[level] = log_price - predictions[alpha]
        fit.half_widths[level] = half_widths(fit.residuals[level], listings["main_category"].to_numpy())
    return fit


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
    factors: list[Factor]  # those that change the estimate most, the strongest first


@dataclass
class PriceModel:
    """A fitted price model, and the categories and places of its training data."""

    fit: PriceFit
    labels: list[str]  # main categories
    categories: list[str]  # paths, the most frequent first
    place: list[float]  # mean latitude and longitude, degrees

    @cached_property
    def columns(self) -> np.ndarray:
        """Names (D,) of the columns of the regressions."""
        return self.fit.features.get_feature_names_out()

    @cached_property
    def paths(self) -> dict[tuple[str, ...], str]:
        """Categories by their parts, main categories, and the most frequent path by its first and last part."""
        by_parts = {_parts(path): path for path in [*self.categories, *self.labels]}
        by_ends = {(parts[0], parts[-1]): path for parts, path in reversed(by_parts.items())}
        return by_ends | by_parts

    def estimate(
        self, text: str, category: str | None = None, location: str | None = None, name: str | None = None
    ) -> PriceEstimate:
        """The price of a listing with this text; without a category, by words and place alone.

        Without a `name`, the first line of the text is the name. A category is a main category, a path of the training
        data or its first and last part (`Home & Garden / Mirrors`), in any capitals; for another path, its main
        category is used. Without a location, the place does not change the price.

        Raises QueryError as `query_parts`, and when the main category or the location is unknown.
        """
        name, description = query_parts(text, name)
        path = None if category is None else self._category(category)
        level = CategoryLevel.NONE
        if path is not None:
            level = CategoryLevel.MAIN if path in self.labels else CategoryLevel.LEAF
        latitude, longitude = self.place if location is None else self._place(location)
        listing = pd.DataFrame(
            {
                "product_name": [name],
                "text": [joined_text(name, description)],
                "category": [path or ""],
                "main_category": [main_of(path or "")],
                "latitude": [latitude],
                "longitude": [longitude],
            }
        )
        log_price, half_width = (float(values[0]) for values in self.fit.predict(listing, level))
        return PriceEstimate(
            price=float(np.exp(log_price)),
            low=float(np.exp(log_price - half_width)),
            high=float(np.exp(log_price + half_width)),
            coverage=COVERAGE,
            category=path,
            location=location,
            factors=self.factors(listing, level, {"category": path, "place": location})[:FACTORS],
        )

    def factors(self, listing: pd.DataFrame, level: str, names: dict[str, str | None]) -> list[Factor]:
        """The factors of one listing, the strongest first; their product with the exponential of the intercept is the
        price.

        `names` are the values of category and place. All columns of a category, or of a word, are one factor.
        """
        values = csr_matrix(self.fit.features.transform(with_category(listing, level))).tocoo()
        effects: dict[str, float] = {}
        for column, effect in zip(values.col, values.data * self.fit.ridges[level].coef_[values.col], strict=True):
            part, _, word = self.columns[column].partition("__")
            part = {"main category": "category", "leaf": "category"}.get(part, part)
            feature = f"{part}: {names[part]}" if part in names else word
            effects[feature] = effects.get(feature, 0.0) + float(effect)
        strongest = sorted(effects.items(), key=lambda item: (-abs(item[1]), item[0]))
        return [Factor(feature, float(np.exp(effect))) for feature, effect in strongest if abs(effect) > 1e-9]

    def _category(self, category: str) -> str:
        parts = _parts(category)
        for key in (parts, (parts[0], parts[-1]), parts[:1]):
            if key in self.paths:
                return self.paths[key]
        raise QueryError(
            f"the training data has no category {category[:80]!r}: choose one of {'; '.join(self.labels)}, or a path "
            "below one."
        )

    def _place(self, location: str) -> list[float]:
        place = locate(clean_line(location))
        if place is None:
            raise QueryError(
                f"the place {location[:80]!r} is unknown: write it as in a listing, e.g. 'Reading, Berkshire', or "
                "leave it out."
            )
        return [place.latitude, place.longitude]


def _parts(category: str) -> tuple[str, ...]:
    return tuple(part.strip().casefold() for part in clean_line(category).split(" / "))


def save_price_model(folder: DataFolder, fit: PriceFit, products: pd.DataFrame) -> Path:
    """Write `checkpoints/price_model.skops`: a fit to the train listings of `products`, and their categories and
    places."""
    train = products[products["split"] == "train"]
    content = {
        "fit": vars(fit),
        "labels": sorted(train["main_category"].unique().tolist()),
        "categories": train["category"].value_counts().index.tolist(),
        "place": train[["latitude", "longitude"]].mean().tolist(),
    }
    save_model(folder.price_model, content)
    return folder.price_model


def load_price_model(folder: DataFolder) -> PriceModel:
    """The price model of a data folder; raises UserError when its file is missing or unreadable."""
    content = load_model(folder.price_model, "tabular_linear_regression.ipynb")
    names = ("labels", "categories", "place")
    return PriceModel(PriceFit(**content["fit"]), **{name: content[name] for name in names})
