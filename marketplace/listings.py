"""The listings of a data folder: the clean table, its splits, main categories and groups, and near copies."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer

from marketplace.data_folder import DataFolder, UserError, read_json, write_whole
from marketplace.listing_text import joined_text, normalised_text
from marketplace.photos import Photos

CLEAN_COLUMNS = (  # of products_table_clean.json
    *("id", "product_name", "product_description", "category", "main_category", "main_category_code"),
    *("price", "location", "latitude", "longitude", "split"),
)
SPLITS = ("train", "validation", "test")
LABELS = ("category", "main_category", "main_category_code")  # columns that a classifier predicts


class Examples(Protocol):
    """Photos, windows of texts, or whatever else belongs to products."""

    product_rows: np.ndarray  # (P,) int64, the row of each example's product in the products table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as a JSON list of records, whole or not at all."""
    with write_whole(path) as partial:
        table.to_json(partial, orient="records", force_ascii=False, double_precision=15)


def read_table(path: Path, made_by: str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table; texts stay texts. `made_by` is the script to run when the file is missing.

    An empty table has `columns`. Raises UserError when the file is missing, is no table, or lacks one of `columns`.
    """
    records = read_json(path, made_by)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path} is not readable as a table: delete it and run {made_by} again.")
    table = pd.DataFrame(records, columns=None if records else list(columns))
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: delete it and run {made_by} again.")
    return table


def split_of(normalised: str) -> str:
    """The split of a normalised description by its sha256: 70% "train", 15% "validation", 15% "test"."""
    part = int(hashlib.sha256(normalised.encode()).hexdigest()[:8], 16) % 100
    return "train" if part < 70 else "validation" if part < 85 else "test"


def main_of(path: str) -> str:
    """Main category of a path: the part before the first " / "."""
    return path.split(" / ")[0].strip()


def load_products(data_dir: str | Path) -> pd.DataFrame:
    """The clean table sorted by id, with two more columns: `text`, name and description in one, and `group`, equal for
    equal descriptions, for grouped cross-validation.

    Raises UserError when the table is missing or empty.
    """
    path = DataFolder(data_dir).products_table_clean
    products = read_table(path, "clean_tabular_data.py", CLEAN_COLUMNS)
    if products.empty:
        raise UserError(f"{path} has no listing: give clean_tabular_data.py a table with usable rows.")
    products = products.sort_values("id", kind="stable").reset_index(drop=True)
    products["text"] = list(map(joined_text, products["product_name"], products["product_description"]))
    products["group"] = products["product_description"].map(normalised_text)
    return products


def load_main_categories(data_dir: str | Path) -> list[str]:
    """Names of the main categories; the position of a name is its label."""
    return list(read_json(DataFolder(data_dir).main_categories, "clean_tabular_data.py"))


def with_shuffled_labels(products: pd.DataFrame, seed: int, columns: Sequence[str] = LABELS) -> pd.DataFrame:
    """The products with the labels of the train split in another order: a model can learn nothing from them.

    The labels of one listing, in `columns`, stay together; validation and test stay as they are.
    """
    rows = np.arange(len(products))
    train = rows_of_split(products, "train")
    rows[train] = np.random.default_rng(seed).permutation(train)
    return products.assign(**{column: products[column].take(rows).array for column in columns})


def rows_of_split(products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the listings of a split."""
    return np.flatnonzero(products["split"] == split)


def examples_of_split(examples: Examples, products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the photos, or of the windows of texts, whose listing is in a split."""
    return np.flatnonzero(products["split"].to_numpy()[examples.product_rows] == split)


def mean_per_product(values: np.ndarray, product_rows: np.ndarray, products: int) -> np.ndarray:
    """Mean (N, C) float64 of the rows of `values` (P, C) that belong to each product; NaN for a product without any."""
    means = pd.DataFrame(values, dtype=np.float64).groupby(product_rows).mean()
    return means.reindex(range(products)).to_numpy()


def listings_seen_in_training(products: pd.DataFrame, photos: Photos | None = None) -> pd.DataFrame:
    """Which test listings are known from train: one row per test listing, in the table's order.

    `same_photo`: a train listing has a photo with the same pixels (equal photos have equal clean photos).
    `similar_text`: a train text has a Jaccard similarity of the words above 0.5.
    """
    test, train = rows_of_split(products, "test"), rows_of_split(products, "train")
    same_photo = np.zeros(len(products), bool)
    if photos is not None:
        digests = photos.hashes()
        in_train = np.isin(digests, digests[examples_of_split(photos, products, "train")])
        same_photo[photos.product_rows[in_train]] = True
    words = CountVectorizer(binary=True, token_pattern=r"\S+", dtype=np.float32)
    counts = words.fit_transform(products["text"].map(normalised_text) + " ∅")  # no text is without a word
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    similar_text = np.zeros(len(products), bool)
    for row in test:
        shared = (counts[train] @ counts[row].T).toarray().ravel()
        similar_text[row] = (shared / (sizes[train] + sizes[row] - shared) > 0.5).any()
    return pd.DataFrame({"id": products["id"], "same_photo": same_photo, "similar_text": similar_text}).iloc[test]


def near_copy_keys(products: pd.DataFrame, photos: Photos | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which listings are near copies: those that share a key.

    Near copies have the same name and text, or the same photo and similar names: a Jaccard similarity of the words of
    at least 0.5 with the first such name. So a dealer's logo makes no near copies of all listings that show it.

    `products` is the table of `load_products`. Returns the keys (K,) int64 and the row of each key's listing (K,)
    int64, ascending.
    """
    names = [normalised_text(name) or name for name in products["product_name"]]  # emoji alone stay as they are
    texts = [normalised_text(text) or text for text in products["product_description"]]
    row_keys: list[tuple[int, Hashable]] = list(enumerate(zip(names, texts, strict=True)))
    if photos is not None:
        names_with: dict[str, list[frozenset[str]]] = defaultdict(list)  # each photo; no two of them are similar
        for photo, row in zip(photos.hashes(), photos.product_rows.tolist(), strict=True):
            words = frozenset(names[row].split())
            similar = [first for first in names_with[photo] if len(words & first) >= 0.5 * len(words | first)]
            if not similar:
                names_with[photo].append(words)
            row_keys.append((row, (photo, similar[0] if similar else words)))
    row_keys.sort(key=lambda item: item[0])
    numbers: dict[Hashable, int] = {}
    keys = [numbers.setdefault(key, len(numbers)) for _, key in row_keys]
    return np.array(keys, np.int64), np.array([row for row, _ in row_keys], np.int64)
