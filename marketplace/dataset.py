"""The clean table and the clean photos of a data folder as a data frame and arrays; the listings of each split.

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/.
Photos are decoded once into uint8, so that an epoch only indexes arrays.
"""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer

from marketplace.data_folder import DataFolder, UserError, read_json
from marketplace.listing_text import normalised_text
from marketplace.photo_cleaning import MAX_BYTES, MAX_PIXELS, PhotoError, clean_photo, encoded
from marketplace.tables import CLEAN_COLUMNS, read_table

SPLITS = ("train", "validation", "test")
LABELS = ("category", "main_category", "main_category_code")  # what a classifier may be asked for


class Examples(Protocol):
    """Photos, windows of texts, or whatever else belongs to products."""

    product_rows: np.ndarray  # (P,) int64, the row of each example's product in the products table


@dataclass
class Photos:
    """The decoded photos of a data folder."""

    pixels: np.ndarray  # (P, S, S, 3) uint8
    image_ids: list[str]
    product_rows: np.ndarray  # (P,) int64, ascending
    left_out: dict[str, int]  # number of photos that are not used, by reason

    def __len__(self) -> int:
        return len(self.image_ids)


def load_products(data_dir: str | Path) -> pd.DataFrame:
    """The clean table sorted by id, with two more columns: `text`, name and description in one, and `group`, equal for
    equal descriptions, for grouped cross-validation.

    Raises UserError when the table is missing or empty, or has a split that is not in SPLITS.
    """
    path = DataFolder(data_dir).products_table_clean
    products = read_table(path, "clean_tabular_data.py", CLEAN_COLUMNS)
    if products.empty:
        raise UserError(f"{path} has no listing: give clean_tabular_data.py a table with usable rows.")
    unknown = set(products["split"]) - set(SPLITS)
    if unknown:
        raise UserError(f"{path} has splits other than {', '.join(SPLITS)}: run clean_tabular_data.py again.")
    products = products.sort_values("id", kind="stable").reset_index(drop=True)
    products["text"] = products["product_name"] + ". " + products["product_description"]
    products["group"] = products["product_description"].map(normalised_text)
    return products


def load_main_categories(data_dir: str | Path) -> list[str]:
    """Names of the main categories; the position of a name is its label."""
    return list(read_json(DataFolder(data_dir).main_categories, "clean_tabular_data.py"))


def _decode(path: Path, size: int) -> np.ndarray | None:
    """Pixels (S, S, 3) uint8 of a clean photo, or None when it cannot be read or has another size."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None
    return pixels if pixels.shape == (size, size, 3) else None


def query_pixels(file: BinaryIO, size: int) -> np.ndarray:
    """Pixels (S, S, 3) uint8 of any photo, cleaned exactly as the photos of listings are, JPEG compression included.

    Raises PhotoError and OSError as `clean_photo`.
    """
    return np.asarray(Image.open(io.BytesIO(encoded(clean_photo(file, size)))))


def load_query_photo(path: Path, size: int) -> np.ndarray:
    """`query_pixels` of a file; raises UserError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return query_pixels(file, size)
    except PhotoError as error:
        raise UserError(
            f"the photo {path} cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most "
            f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_BYTES // 1_000_000} MB."
        ) from None
    except OSError as error:
        raise UserError(
            f"the photo {path} cannot be opened ({error.strerror}): give the path of a file, not a folder or a link."
        ) from None


def load_photos(data_dir: str | Path, products: pd.DataFrame, image_size: int = 64) -> Photos:
    """Decode the clean photos of the listings in `products`, in the order of the listings and then of the photo ids.

    Photos of a dropped duplicate belong to the listing that was kept. Photos of unknown listings, photos without a
    clean file and unreadable ones are left out and counted.

    Raises UserError when there are no clean photos of that size.
    """
    folder = DataFolder(data_dir)
    directory = folder.clean_images(image_size)
    if not directory.is_dir():
        raise UserError(
            f"{directory} is missing: run clean_images.py --size {image_size} --data-dir {folder.path} first."
        )
    table = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
    table = table.dropna(subset=["id", "product_id"]).drop_duplicates("id")
    kept_id = read_json(folder.duplicates, "clean_tabular_data.py")
    row_of = {product_id: row for row, product_id in enumerate(products["id"])}
    rows = table["product_id"].map(lambda product_id: row_of.get(kept_id.get(product_id, product_id)))
    has_file = table["id"].isin({path.stem for path in directory.glob("*.jpg")})
    photos = table.assign(row=rows)[rows.notna() & has_file].sort_values(["row", "id"])
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda name: _decode(directory / f"{name}.jpg", image_size), photos["id"]))
    photos = photos[[pixels is not None for pixels in decoded]]
    if photos.empty:
        raise UserError(f"{directory} has no photo of a listing in the table: run clean_images.py again.")
    return Photos(
        pixels=np.stack([pixels for pixels in decoded if pixels is not None]),
        image_ids=photos["id"].tolist(),
        product_rows=photos["row"].to_numpy(np.int64),
        left_out={
            "of an unknown or dropped listing": int((rows.isna() & has_file).sum()),
            "without a clean file": int((rows.notna() & ~has_file).sum()),
            "unreadable or of another size": len(decoded) - len(photos),
        },
    )


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
        digests = np.array([hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in photos.pixels])
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
