"""From the listings of a data folder to their index, from a text or a photo to a query vector."""

import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.listings import load_main_categories, load_products, mean_per_product
from marketplace.photos import Photos, load_photos
from models import ImageModel, TextModel
from models.device import pick_device
from models.predict import load_checkpoint, photo_outputs, text_outputs
from models.text_encoder import ENCODER, TextEncoder, Texts, load_texts, product_embeddings
from ranking.index import EXACT_LIMIT, ProductIndex, build_inverted_file, fingerprint
from ranking.vectors import Features, VectorSpace, fit_space

COLUMNS = ("id", "product_name", "category", "main_category", "price", "location", "latitude", "longitude")


@dataclass
class Networks:
    """The trained networks of a data folder, in evaluation mode, and what they need to know about their inputs."""

    text_model: TextModel | None = None
    image_encoder: ImageModel | None = None  # without its last layer: gives the last hidden layer (N, 256)
    image_classifier: nn.Linear | None = None  # that last layer: gives the logits (N, C)
    encoder: str = ENCODER
    encoder_weights: str | None = None  # `TextEncoder.weights_hash`
    image_size: int = 64  # pixels
    sources: dict[str, Any] = field(default_factory=dict)  # fingerprint of the data folder when they were loaded


def load_networks(folder: DataFolder, text: bool = True, image: bool = True) -> Networks:
    """The networks for texts and for photos, each if it is wanted and has a checkpoint.

    Raises UserError when neither has one, or a checkpoint does not fit the categories of the data folder.
    """
    text_path, image_path = folder.checkpoints / "text_model_best.pt", folder.checkpoints / "image_model_best.pt"
    if not text_path.is_file() and not image_path.is_file():
        raise UserError(f"{folder.checkpoints} has neither a text nor an image model: run train_models.py first.")
    categories = load_main_categories(folder.path)
    networks = Networks()
    if text and text_path.is_file():
        networks.text_model = TextModel(len(categories))
        checkpoint = load_checkpoint(text_path, networks.text_model, categories)
        networks.encoder = checkpoint["configuration"]["encoder"]
        networks.encoder_weights = checkpoint["configuration"].get("encoder_weights")
    if image and image_path.is_file():
        networks.image_encoder = ImageModel(len(categories))
        checkpoint = load_checkpoint(image_path, networks.image_encoder, categories)
        networks.image_size = checkpoint["configuration"]["image_size"]
        networks.image_classifier = networks.image_encoder.resnet.fc[-1]
        networks.image_encoder.resnet.fc[-1] = nn.Identity()
    networks.sources = fingerprint(folder, networks.image_size)
    return networks


def product_features(networks: Networks, products: int, texts: Texts | None, photos: Photos | None) -> Features:
    """Features of `products` products: means over the windows of a text and over the photos of a product."""
    features = Features()
    device = pick_device()
    if texts is not None:
        features.text_embedding = product_embeddings(texts, products).astype(np.float32)
        if networks.text_model is not None:
            features.text_logits = text_outputs(networks.text_model, texts, device)
    if photos is not None and networks.image_encoder is not None and networks.image_classifier is not None:
        hidden = photo_outputs(networks.image_encoder, photos, device)  # (P, 256)
        features.image_embedding = mean_per_product(hidden, photos.product_rows, products).astype(np.float32)
        with torch.inference_mode():  # the layer is linear: logits of the mean are the mean of the logits
            features.image_logits = networks.image_classifier(torch.from_numpy(features.image_embedding)).numpy()
    return features


def build_index(folder: DataFolder) -> ProductIndex:
    """Compute the features of every listing, fit the vector space and index the vectors.

    Raises UserError when a table, or every checkpoint, is missing, and when the encoder's weights are not those of the
    text model.
    """
    networks = load_networks(folder)
    products = load_products(folder.path)
    try:
        texts = load_texts(folder.path, products, networks.encoder, weights_hash=networks.encoder_weights)
    except OSError as error:  # no right to write there, or a full disk; the memory map outlives its file
        print(
            f"warning: {folder.embeddings} cannot be used ({error.strerror}): all texts are embedded.", file=sys.stderr
        )
        with tempfile.TemporaryDirectory() as scratch:
            texts = load_texts(scratch, products, networks.encoder, weights_hash=networks.encoder_weights)
    photos = None
    if networks.image_encoder is not None:
        photos = load_photos(folder.path, products, networks.image_size)
    features = product_features(networks, len(products), texts, photos)
    space = fit_space(features, products["category"].tolist(), products["split"].tolist())
    return join_index(products, photos, networks, features, space)


def join_index(
    products: pd.DataFrame, photos: Photos | None, networks: Networks, features: Features, space: VectorSpace
) -> ProductIndex:
    """The index of listings whose features and vector space are known.

    Listings with the same text, or with photos of the same pixels, share one of their `duplicate_keys`.
    """
    rows = np.arange(len(products))
    image_ids: list[str] = []
    photo_rows = np.empty(0, np.int64)
    content = products["group"].tolist()
    if photos is not None:
        image_ids, photo_rows = photos.image_ids, photos.product_rows
        content += photos.hashes().tolist()
    keys = pd.factorize(np.array(content, object))[0].tolist()
    listings = {name: products[name].tolist() for name in COLUMNS}
    listings["photos"] = _lists_of_rows(len(products), photo_rows, image_ids)
    listings["duplicate_keys"] = _lists_of_rows(len(products), np.concatenate([rows, photo_rows]), keys)
    weights_hash = TextEncoder(networks.encoder).weights_hash
    metadata = {"fingerprint": networks.sources, "image_size": networks.image_size, "encoder_weights": weights_hash}
    index = ProductIndex(space.vectors(features), listings, space.to_arrays(), metadata)
    if len(index) > EXACT_LIMIT:
        index.inverted_file, index.metadata["recall_at_10"] = build_inverted_file(index.vectors)
    return index


def _lists_of_rows(count: int, rows: np.ndarray, values: Iterable[Any]) -> list[list[Any]]:
    """For each of `count` rows the values that belong to it."""
    lists: list[list[Any]] = [[] for _ in range(count)]
    for row, value in zip(rows.tolist(), values, strict=True):
        lists[row].append(value)
    return lists


def load_query_encoder(folder: DataFolder, networks: Networks, index: ProductIndex) -> TextEncoder:
    """The encoder for texts of queries; raises UserError when its weights are not those of the index."""
    encoder = TextEncoder(networks.encoder)
    if encoder.weights_hash != index.metadata["encoder_weights"]:
        raise UserError(
            f"the index was made with other weights of the text encoder {encoder.name}: delete {folder.index} and "
            "run the command again."
        )
    return encoder


def text_and_photo_vector(
    networks: Networks, encoder: TextEncoder | None, index: ProductIndex, text: str | None, pixels: np.ndarray | None
) -> np.ndarray:
    """Unit vector (D,) of a cleaned text, of a photo (S, S, 3) uint8, or of a listing that has both.

    `encoder` may be None where `text` is. Raises QueryError when a photo is given but there is no image model.
    """
    texts = photos = None
    if text is not None and encoder is not None:
        windows = encoder.encode(encoder.windows(text))
        texts = Texts(windows, np.zeros(len(windows), np.int64))
    if pixels is not None:
        if networks.image_encoder is None:
            raise QueryError("this data folder has no image model: query by text, or run train_models.py.")
        photos = Photos(pixels[None], ["query"], np.zeros(1, np.int64), {})
    return VectorSpace.from_arrays(index.space).vectors(product_features(networks, 1, texts, photos))[0]
