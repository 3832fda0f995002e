"""From a data folder to its product index, and from a text or a photo to a query of it.

Reads products_table_clean.json, main_categories.json, images_table.json, clean_images_<size>/ and the checkpoints of
TextModel and ImageModel; one of the two is enough. Writes index/product_index.npz. The networks are imported only
where something has to be computed: listings of a ready index are compared without them.
"""

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marketplace.data_folder import DataFolder, UserError
from ranking.index import ProductIndex, build_search, unit_rows
from ranking.vectors import Features, VectorSpace, fit_space

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from marketplace.dataset import Photos

VERSION = 2  # of what an index holds; another one is rebuilt
COLUMNS = ("id", "product_name", "category", "main_category", "price", "location", "latitude", "longitude")
BATCH = 64  # photos
TEXT_BATCH = 256


def index_path(folder: DataFolder) -> Path:
    return folder.index / "product_index.npz"


def checkpoint_paths(folder: DataFolder) -> dict[str, Path]:
    """The checkpoints that there are, of "text" and "image"."""
    paths = {name: folder.checkpoints / f"{name}_model_best.pt" for name in ("text", "image")}
    return {name: path for name, path in paths.items() if path.is_file()}


def fingerprint(folder: DataFolder, image_size: int) -> dict[str, list[int] | int | None]:
    """Size and time of change (ns) of each file that an index is made from; None for one that is not there."""
    sources = {
        "table": folder.products_table_clean,
        "table of photos": folder.images_table,
        "photos": folder.clean_images_manifest(image_size),
        "text model": folder.checkpoints / "text_model_best.pt",
        "image model": folder.checkpoints / "image_model_best.pt",
    }
    found: dict[str, list[int] | int | None] = {"version": VERSION}
    for name, path in sources.items():
        status = path.stat() if path.exists() else None
        found[name] = status and [status.st_size, status.st_mtime_ns]
    return found


def open_index(folder: DataFolder) -> tuple[ProductIndex, list[str]]:
    """The index of a data folder, built or rebuilt where it is missing, damaged or stale; and sentences that say so.

    Raises UserError when it has to be built and a table, or every checkpoint, is missing.
    """
    path = index_path(folder)
    start = time.perf_counter()
    reason = "there is none yet"
    if path.exists():
        try:
            index = ProductIndex.load(path)
            reason = stale_reason(folder, index)
        except ValueError:
            reason = "the old one is damaged"
        if reason is None:
            return index, [f"index of {len(index):,} listings loaded in {time.perf_counter() - start:.2f} s."]
    index = build_index(folder)
    index.save(path)
    how = f"{index.about['kind']} search over {index.dimension} numbers a listing"
    return index, [f"index of {len(index):,} listings built in {time.perf_counter() - start:.1f} s, {reason} ({how})."]


def stale_reason(folder: DataFolder, index: ProductIndex) -> str | None:
    """Why an index is not that of the data folder as it is now; None when it is."""
    was, now = index.about.get("fingerprint", {}), fingerprint(folder, index.about.get("image_size", 64))
    if was.get("version") != VERSION:
        return "the old one is of another version"
    changed = [name for name in now if now[name] != was.get(name)]
    return f"for the {' and the '.join(changed)} changed since the old one" if changed else None


def load_networks(folder: DataFolder, wanted: tuple[str, ...] = ("text", "image")) -> dict[str, Any]:
    """What the checkpoints hold: {"text_model", "image_model" (in evaluation mode, or None), "encoder", "image_size",
    "sources"}; the last is the fingerprint of the folder before its listings are read.

    Raises UserError when there is neither checkpoint, or one does not fit the data folder's categories.
    """
    paths = checkpoint_paths(folder)
    if not paths:
        raise UserError(f"{folder.checkpoints} has neither a text nor an image model: run train_models.py first.")
    from marketplace.dataset import load_main_categories
    from models import ImageModel, TextModel
    from models.checkpoints import load_checkpoint
    from models.text_encoder import ENCODER

    categories = load_main_categories(folder.path)
    networks: dict[str, Any] = {"text_model": None, "image_model": None, "encoder": ENCODER, "image_size": 64}
    for name, kind in (("text", TextModel), ("image", ImageModel)):
        if name in paths and name in wanted:
            model = kind(len(categories))
            configuration = load_checkpoint(paths[name], model, categories)["configuration"]
            networks[f"{name}_model"] = model.eval()
            networks |= {key: configuration[key] for key in ("encoder", "image_size") if key in configuration}
    return networks | {"sources": fingerprint(folder, networks["image_size"])}


def text_features(embeddings, product_rows: np.ndarray, products: int, text_model: "nn.Module | None") -> Features:
    """Features of the products whose texts are `embeddings` (W, 50, 768) float16, the mean over each product's windows.

    Padding, all zeros, does not enter the mean over the tokens.
    """
    import torch

    from marketplace.dataset import mean_per_product
    from models.batches import mean_embeddings
    from models.device import autocast, pick_device

    device = pick_device()
    words, outputs = [], []
    for start in range(0, len(embeddings), TEXT_BATCH):
        batch = np.asarray(embeddings[np.arange(start, min(start + TEXT_BATCH, len(embeddings)))], np.float32)
        words.append(mean_embeddings(batch))
        if text_model is not None:
            with torch.inference_mode(), autocast(device):
                logits = text_model.to(device)(torch.from_numpy(batch).to(device))
            outputs.append(logits.float().cpu().numpy())
    means = [
        mean_per_product(np.concatenate(parts), product_rows, products).astype(np.float32) if parts else None
        for parts in (words, outputs)
    ]
    return Features(words=means[0], text_output=means[1])


def photo_features(pixels: np.ndarray, product_rows: np.ndarray, products: int, image_model: "nn.Module") -> Features:
    """Features of the products whose photos are `pixels` (P, S, S, 3) uint8, the mean over each product's photos."""
    import torch

    from marketplace.dataset import mean_per_product
    from models.device import autocast, pick_device
    from models.image_model import evaluation_transform

    device = pick_device()
    resnet = image_model.to(device).resnet
    head = resnet.fc
    hidden, outputs = [], []
    resnet.fc = torch.nn.Identity()
    try:
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(np.array(pixels[start : start + BATCH]))
            with torch.inference_mode(), autocast(device):
                last = head[:-1](resnet(evaluation_transform(batch.to(device))))
                logits = head[-1](last)
            hidden.append(last.float().cpu().numpy())
            outputs.append(logits.float().cpu().numpy())
    finally:
        resnet.fc = head
    means = [mean_per_product(np.concatenate(parts), product_rows, products) for parts in (hidden, outputs)]
    return Features(look=means[0].astype(np.float32), photo_output=means[1].astype(np.float32))


def product_features(
    data_dir: Path, products: "pd.DataFrame", photos: "Photos | None", networks: dict[str, Any]
) -> Features:
    """Features of every listing of a data folder."""
    from models.batches import load_texts

    texts = load_texts(data_dir, products, networks["encoder"])
    features = text_features(texts.embeddings, texts.product_rows, len(products), networks["text_model"])
    if photos is not None and networks["image_model"] is not None:
        seen = photo_features(photos.pixels, photos.product_rows, len(products), networks["image_model"])
        features.look, features.photo_output = seen.look, seen.photo_output
    return features


def build_index(folder: DataFolder) -> ProductIndex:
    """Compute the features of every listing and fit, weigh, join and index them."""
    networks = load_networks(folder)
    from marketplace.dataset import load_photos, load_products

    products = load_products(folder.path)
    photos = None
    if networks["image_model"] is not None:
        photos = load_photos(folder.path, products, networks["image_size"])
    features = product_features(folder.path, products, photos, networks)
    space = fit_space(features, products["category"].tolist(), products["split"].tolist())
    return join_index(products, photos, networks, features, space)


def join_index(
    products: "pd.DataFrame",
    photos: "Photos | None",
    networks: dict[str, Any],
    features: Features,
    space: VectorSpace,
) -> ProductIndex:
    """The index of listings whose features and vector space are known."""
    from models.text_encoder import TextEncoder

    search_index, about = build_search(space.vectors(features))
    arrays, values = space.save_to()
    return ProductIndex(
        search_index,
        {name: products[name].tolist() for name in COLUMNS} | {"photos": photos_of(products, photos)},
        text_keys=products["group"].factorize()[0],
        photo_keys=photo_keys(photos),
        arrays=arrays,
        about={
            **about,
            "fingerprint": networks["sources"],
            "image_size": networks["image_size"],
            "encoder": networks["encoder"],
            "encoder_weights": TextEncoder(networks["encoder"]).weights_hash,
            "space": values,
        },
    )


def photos_of(products: "pd.DataFrame", photos: "Photos | None") -> list[list[str]]:
    """Ids of the photos of each listing."""
    ids: list[list[str]] = [[] for _ in range(len(products))]
    for row, image_id in zip(photos.product_rows, photos.image_ids, strict=True) if photos else ():
        ids[row].append(image_id)
    return ids


def photo_keys(photos: "Photos | None") -> np.ndarray:
    """Pairs (P, 2) int64 of a listing's row and a number that photos of the same pixels share."""
    if photos is None:
        return np.zeros((0, 2), np.int64)
    numbers: dict[bytes, int] = {}
    keys = [numbers.setdefault(hashlib.sha256(one.tobytes()).digest(), len(numbers)) for one in photos.pixels]
    return np.stack([photos.product_rows, np.array(keys, np.int64)], axis=1)


def query_vector(
    folder: DataFolder,
    index: ProductIndex,
    text: str | None = None,
    pixels: np.ndarray | None = None,
    row: int | None = None,
) -> np.ndarray:
    """Unit vector (D,) of a query: a text and a photo (S, S, 3) uint8 as one listing would be, together with a listing.

    Raises UserError when the networks that a text or a photo needs are not there or are not those of the index.
    """
    vectors = []
    if text is not None or pixels is not None:
        wanted = {"text": text is not None, "image": pixels is not None}
        networks = load_networks(folder, tuple(name for name in wanted if wanted[name]))
        space = VectorSpace(index.arrays, **index.about["space"])
        features = Features()
        if text is not None:
            windows = _encode(index, text)
            features = text_features(windows, np.zeros(len(windows), np.int64), 1, networks["text_model"])
        if pixels is not None:
            if networks["image_model"] is None:
                raise UserError(f"{folder.checkpoints} has no image model: run train_models.py, or ask by text.")
            seen = photo_features(pixels[None], np.zeros(1, np.int64), 1, networks["image_model"])
            features.look, features.photo_output = seen.look, seen.photo_output
        vectors.append(space.vectors(features)[0])
    if row is not None:
        vectors.append(index.vector(row))
    return unit_rows(np.sum(vectors, axis=0, keepdims=True))[0]


def _encode(index: ProductIndex, text: str) -> np.ndarray:
    """Embedded windows (W, 50, 768) of a query's text by the encoder that the index was made with."""
    from models.text_encoder import TextEncoder

    encoder = TextEncoder(index.about["encoder"])
    if encoder.weights_hash != index.about["encoder_weights"]:
        raise UserError(
            f"the index was made with other weights of the text encoder {encoder.name}: delete it, and the next "
            "command makes it anew."
        )
    return encoder.encode(encoder.windows(text.strip()))
