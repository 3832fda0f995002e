"""From the listings of a data folder to their index, from a text or a photo to a query vector."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.listings import load_main_categories, load_products, mean_per_product, near_copy_keys
from marketplace.photos import PHOTO_SIZE, Photos, load_photos
from models.device import pick_device
from models.predict import load_network, photo_outputs, text_outputs
from models.text_encoder import TextEncoder, Texts, load_texts, product_embeddings
from ranking.index import COLUMNS, EXACT_LIMIT, ProductIndex, build_inverted_file
from ranking.vectors import Features, VectorSpace, fit_space


@dataclass
class Networks:
    """The trained networks of a data folder, in evaluation mode, and the settings of their inputs."""

    text_model: nn.Module | None = None
    text_encoder: TextEncoder | None = None
    image_encoder: nn.Module | None = None  # ImageModel without its last layer: gives the last hidden layer (N, 256)
    image_classifier: nn.Module | None = None  # that last layer: gives the logits (N, C)
    image_size: int = PHOTO_SIZE


def load_networks(folder: DataFolder, text: bool = True, image: bool = True) -> Networks:
    """The networks for texts and for photos, each if it is wanted and has a checkpoint.

    Raises UserError when neither has one, or a checkpoint does not fit the categories of the data folder.
    """
    if not any(folder.checkpoint(name).is_file() for name in ("text", "image")):
        raise UserError(f"{folder.checkpoints} has neither a text nor an image model: run train_models.py first.")
    categories, device = load_main_categories(folder.path), pick_device()
    networks = Networks()
    if text and folder.checkpoint("text").is_file():
        networks.text_model, settings = load_network(folder, "text", categories, device)
        networks.text_encoder = TextEncoder(settings["encoder"], device, settings.get("encoder_weights"))
    if image and folder.checkpoint("image").is_file():
        model: Any
        model, settings = load_network(folder, "image", categories, device)
        networks.image_size = settings["image_size"]
        networks.image_classifier, model.resnet.fc[-1] = model.resnet.fc[-1], nn.Identity()
        networks.image_encoder = model
    return networks


@torch.inference_mode()
def product_features(networks: Networks, products: int, texts: Texts | None, photos: Photos | None) -> Features:
    """Features of `products` products: means over the windows of a text and over the photos of a product."""
    features, device = Features(), pick_device()
    if texts is not None and networks.text_model is not None and networks.text_encoder is not None:
        embeddings = product_embeddings(texts, products).astype(np.float32)
        features.text_embedding = embeddings.reshape(products, networks.text_encoder.layers, -1)
        features.text_logits = text_outputs(networks.text_model, texts, device)
    if photos is not None and networks.image_encoder is not None and networks.image_classifier is not None:
        hidden = photo_outputs(networks.image_encoder, photos, device)  # (P, 256)
        means = mean_per_product(hidden, photos.product_rows, products).astype(np.float32)
        features.image_embedding = means[:, None]
        # the layer is linear: logits of the mean are the mean of the logits
        features.image_logits = networks.image_classifier(torch.from_numpy(means).to(device)).cpu().numpy()
    return features


def build_index(folder: DataFolder) -> ProductIndex:
    """Compute the features of every listing, fit the vector space and index the vectors.

    Raises UserError when a table, or every checkpoint, is missing.
    """
    networks = load_networks(folder)
    products = load_products(folder.path)
    texts = photos = None
    if networks.text_encoder is not None:
        encoder = networks.text_encoder
        texts = load_texts(folder.path, products, encoder.name, encoder.device, encoder.weights_hash)
    if networks.image_encoder is not None:
        photos = load_photos(folder.path, products, networks.image_size)
    features = product_features(networks, len(products), texts, photos)
    space = fit_space(features, products["category"].tolist(), products["split"].tolist())
    return join_index(products, photos, networks, features, space)


def join_index(
    products: pd.DataFrame, photos: Photos | None, networks: Networks, features: Features, space: VectorSpace
) -> ProductIndex:
    """The index of listings whose features and vector space are known."""
    keys, key_rows = near_copy_keys(products, photos)
    index = ProductIndex(
        vectors=space.vectors(features),
        listings=products[list(COLUMNS)].to_dict("list"),
        keys=keys,
        key_rows=key_rows,
        image_ids=np.array([] if photos is None else photos.image_ids, str),
        image_rows=np.empty(0, np.int64) if photos is None else photos.product_rows,
        image_size=networks.image_size,
        space=space.to_arrays(),
    )
    if len(index) > EXACT_LIMIT:
        index.inverted_file = build_inverted_file(index.vectors)
    return index


def query_vector(
    networks: Networks, index: ProductIndex, text: tuple[str, str] | None, pixels: np.ndarray | None
) -> np.ndarray | None:
    """Unit vector (D,) of a text (cleaned name and description), of a photo (S, S, 3) uint8, or of both; None without.

    Raises QueryError when the network for one of them is missing.
    """
    if text is None and pixels is None:
        return None
    texts = photos = None
    if text is not None:
        if networks.text_encoder is None:
            raise QueryError("this data folder has no text model: query by photo, or run train_models.py.")
        windows = networks.text_encoder.encode(networks.text_encoder.windows(*text))
        texts = Texts(windows, np.zeros(len(windows), np.int64))
    if pixels is not None:
        if networks.image_encoder is None:
            raise QueryError("this data folder has no image model: query by text, or run train_models.py.")
        photos = Photos(pixels[None], ["query"], np.zeros(1, np.int64), {})
    return VectorSpace.from_arrays(index.space).vectors(product_features(networks, 1, texts, photos))[0]
