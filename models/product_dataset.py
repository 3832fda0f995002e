"""Joins the clean table, the clean photos and the text embeddings of a data folder into arrays and batches.

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/ of
a data folder; writes nothing but the embeddings' cache. Photos are decoded once into uint8 and texts embedded once, so
that an epoch is array indexing; the split of a listing is the table's `split` column and never chosen here.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer

from data_folder import CLEAN_COLUMNS, DataFolder, UserError, read_json, read_table
from listing_text import normalised_text
from models.text_model import ENCODER, TextEmbeddings, TextEncoder, cached_embeddings
from models.training import memory_advice

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


@dataclass
class Texts:
    """The texts of a data folder, embedded; a long one in several windows, which belong to one row of the table."""

    embeddings: TextEmbeddings  # (W, 50, 768) float16, memory-mapped
    product_rows: np.ndarray  # (W,) int64, ascending

    def __len__(self) -> int:
        return len(self.product_rows)

    @classmethod
    def one_each(cls, embeddings) -> "Texts":
        """Embeddings (N, 50, 768) of which each is the only one of its row."""
        return cls(embeddings, np.arange(len(embeddings)))


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


def load_texts(
    data_dir: str | Path, products: pd.DataFrame, encoder: str = ENCODER, device: torch.device | str = "cpu"
) -> Texts:
    """The embedded windows of every listing's text; those not yet in embeddings/ are computed."""
    reader = TextEncoder(encoder, device)
    windows = [reader.windows(text) for text in products["text"]]
    rows = np.repeat(np.arange(len(products)), [len(of_product) for of_product in windows])
    texts = [window for of_product in windows for window in of_product]
    return Texts(cached_embeddings(DataFolder(data_dir).embeddings, texts, reader), rows)


class Batches:
    """Batches (inputs, labels) of arrays, as often as they are asked for; what `training.fit` takes.

    `inputs` is anything that an int64 index array indexes: pixels (P, S, S, 3) uint8 or text embeddings (N, 50, 768)
    float16. `rows` says which of them belong to the split, `labels` (one each of `rows`) what they are: whole numbers,
    or a row of probabilities each. `transform` works on a whole batch on `device`; without it the batch is given as it
    is. Shuffling draws from torch's global generator, so that a restored random state gives the same order again.
    `share` is (number of this process, number of processes): of each batch it takes its equal part. On a GPU the whole
    array is moved there once if it fits.
    """

    def __init__(
        self,
        inputs,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int = 64,
        shuffle: bool = False,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        device: torch.device | str = "cpu",
        share: tuple[int, int] = (0, 1),
    ):
        if len(rows) != len(labels):
            raise ValueError(f"{len(rows)} rows but {len(labels)} labels")
        self.inputs = _on_device(inputs, torch.device(device))
        self.rows = np.asarray(rows, np.int64)
        labels = np.array(labels)
        self.labels = torch.from_numpy(labels.astype(np.int64 if labels.ndim == 1 else np.float32))
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.device = torch.device(device)
        self.share = share

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest >= self.share[1])  # a rest that not every process has a part of is left out

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.rows)) if self.shuffle else torch.arange(len(self.rows))
        process, processes = self.share
        for chosen in order.split(self.batch_size)[: len(self)]:
            chosen = chosen[process : len(chosen) - len(chosen) % processes : processes]
            rows = self.rows[chosen.numpy()]
            with memory_advice(self.batch_size):
                if isinstance(self.inputs, torch.Tensor):
                    batch = self.inputs[torch.from_numpy(rows).to(self.device, non_blocking=True)]
                else:
                    batch = torch.from_numpy(np.ascontiguousarray(self.inputs[rows])).to(self.device)
                if self.transform is not None:
                    batch = self.transform(batch)
            yield batch, self.labels[chosen].to(self.device, non_blocking=True)


def _on_device(inputs, device: torch.device):
    """`inputs` as a tensor on a GPU that has room for twice as much; elsewhere as they are."""
    if (
        device.type != "cuda"
        or math.prod(inputs.shape) * inputs.dtype.itemsize > torch.cuda.mem_get_info(device)[0] / 2
    ):
        return inputs
    return torch.from_numpy(np.asarray(inputs)).to(device)


def rows_of_split(products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the listings of a split."""
    return np.flatnonzero(products["split"] == split)


def photos_of_split(photos: "Photos | Texts", products: pd.DataFrame, split: str) -> np.ndarray:
    """Positions (int64) of the photos, or of the windows of texts, whose listing is in a split."""
    return np.flatnonzero(products["split"].to_numpy()[photos.product_rows] == split)


def mean_embeddings(embeddings, block: int = 1024) -> np.ndarray:
    """Mean (N, 768) float32 of the tokens that are there in each embedded text (N, 50, 768)."""
    blocks = []
    for start in range(0, len(embeddings), block):
        tokens = np.asarray(embeddings[start : start + block], np.float32)
        there = (tokens != 0).any(axis=2).sum(axis=1, keepdims=True)
        blocks.append(tokens.sum(axis=1) / np.maximum(there, 1))
    return np.concatenate(blocks)


def mean_by_product(values: np.ndarray, product_rows: np.ndarray, products: int) -> np.ndarray:
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
        in_train = set(digests[photos_of_split(photos, products, "train")])
        for position in photos_of_split(photos, products, "test"):
            same_photo[photos.product_rows[position]] |= digests[position] in in_train
    words = CountVectorizer(binary=True, token_pattern=r"\S+", dtype=np.float32)
    counts = words.fit_transform(products["text"].map(normalised_text) + " ∅")
    similar = np.zeros(len(products), bool)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    for row in test:
        shared = (counts[train] @ counts[row].T).toarray().ravel()
        similar[row] = bool((shared / (sizes[train] + sizes[row] - shared) > 0.5).any())
    return pd.DataFrame({"id": products["id"], "same_photo": same_photo, "similar_text": similar}).iloc[test]
