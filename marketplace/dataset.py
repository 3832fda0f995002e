"""Joins the clean table, the clean photos and the text embeddings of a data folder into arrays and batches.

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/ of
a data folder; writes nothing but the embeddings' cache. Photos are decoded once into uint8 and texts embedded once, so
that an epoch is array indexing; the split of a listing is the table's `split` column and never chosen here.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer

from marketplace.data_folder import DataFolder, UserError, read_json
from marketplace.listing_text import normalised_text
from marketplace.tables import CLEAN_COLUMNS, read_table

SPLITS = ("train", "validation", "test")


@dataclass
class Photos:
    """The photos of a data folder, decoded; photo i belongs to row `product_rows[i]` of the products table."""

    pixels: np.ndarray  # (P, S, S, 3) uint8
    image_ids: list[str]
    product_rows: np.ndarray  # (P,) int64, ascending
    left_out: dict[str, int]  # photos not used, by reason

    def __len__(self) -> int:
        return len(self.image_ids)


def load_products(data_dir: str | Path) -> pd.DataFrame:
    """The clean table sorted by id, with `text` (what the encoder reads) and `group` (for folds that must not leak).

    Raises UserError when the table is missing, empty, or holds a split that is none of train, validation, test.
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


def load_photos(data_dir: str | Path, products: pd.DataFrame, image_size: int = 64) -> Photos:
    """Decode the clean photos of the listings in `products`, in order of listing and then of photo id.

    Photos of a dropped copy belong to the listing that was kept. Photos of unknown listings, photos without a clean
    file and unreadable ones are left out and counted.

    Raises UserError when there are no clean photos of that size.
    """
    folder = DataFolder(data_dir)
    directory = folder.clean_images(image_size)
    if not directory.is_dir():
        raise UserError(
            f"{directory} is missing: run clean_images.py --size {image_size} --data-dir {folder.path} first."
        )
    table = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
    kept_id = read_json(folder.duplicates, "clean_tabular_data.py")
    table = table.dropna(subset=["id", "product_id"]).drop_duplicates("id")
    row_of = pd.Series(np.arange(len(products)), index=products["id"])
    rows = table["product_id"].replace(kept_id).map(row_of)
    names = {path.stem for path in directory.glob("*.jpg")}
    has_file = table["id"].isin(names)
    usable = pd.DataFrame({"id": table["id"], "row": rows})[rows.notna() & has_file]
    usable = usable.sort_values(["row", "id"], kind="stable")
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda name: _decode(directory / f"{name}.jpg", image_size), usable["id"]))
    readable = [pixels is not None for pixels in decoded]
    usable = usable[readable]
    if usable.empty:
        raise UserError(f"{directory} has no photo of a listing in the table: run clean_images.py again.")
    return Photos(
        pixels=np.stack([pixels for pixels in decoded if pixels is not None]),
        image_ids=usable["id"].tolist(),
        product_rows=usable["row"].to_numpy(np.int64),
        left_out={
            "of an unknown or dropped listing": int((rows.isna() & has_file).sum()),
            "without a clean file": int((rows.notna() & ~has_file).sum()),
            "unreadable or of another size": len(readable) - sum(readable),
        },
    )


def rows_of_split(products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the listings of a split."""
    return np.flatnonzero(products["split"] == split)


def examples_of_split(examples: "Photos", products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the photos, or of the windows of texts, whose listing is in a split."""
    return np.flatnonzero(products["split"].to_numpy()[examples.product_rows] == split)


def mean_per_product(values: np.ndarray, product_rows: np.ndarray, products: int) -> np.ndarray:
    """Mean (N, C) of the rows of `values` (P, C) that belong to each product; NaN for a product without any."""
    sums = np.zeros((products, values.shape[1]), np.float64)
    np.add.at(sums, product_rows, values)
    counts = np.bincount(product_rows, minlength=products)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def listings_seen_in_training(products: pd.DataFrame, photos: Photos | None = None) -> pd.DataFrame:
    """Which test listings are known from train: one row a test listing, in the table's order.

    `same_photo`: a train listing has a photo of the same pixels (two sources of the same bytes give the same clean
    photo). `similar_text`: the words of a train text overlap with its words by a Jaccard index above 0.5.
    """
    test, train = rows_of_split(products, "test"), rows_of_split(products, "train")
    same_photo = np.zeros(len(products), bool)
    if photos is not None:
        digests = np.array([hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in photos.pixels])
        in_train = set(digests[examples_of_split(photos, products, "train")])
        for position in examples_of_split(photos, products, "test"):
            same_photo[photos.product_rows[position]] |= digests[position] in in_train
    words = CountVectorizer(binary=True, token_pattern=r"\S+", dtype=np.float32)
    counts = words.fit_transform(products["text"].map(normalised_text) + " ∅")
    similar = np.zeros(len(products), bool)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    for row in test:
        shared = (counts[train] @ counts[row].T).toarray().ravel()
        similar[row] = bool((shared / (sizes[train] + sizes[row] - shared) > 0.5).any())
    return pd.DataFrame({"id": products["id"], "same_photo": same_photo, "similar_text": similar}).iloc[test]
