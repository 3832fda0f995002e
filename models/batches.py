"""The embedded texts of a data folder, and batches of texts or photos for training and evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from marketplace.data_folder import DataFolder
from marketplace.dataset import mean_per_product
from models.device import memory_advice
from models.text_encoder import ENCODER, TextEmbeddings, TextEncoder, cached_embeddings


@dataclass
class Texts:
    """The embedded texts of the listings; a long text has several windows, which belong to one row of the table."""

    embeddings: TextEmbeddings | np.ndarray  # (W, 50, 768) float16
    product_rows: np.ndarray  # (W,) int64, ascending
    encoder: str = ENCODER  # name or folder
    encoder_weights: str | None = None  # `TextEncoder.weights_hash`

    def __len__(self) -> int:
        return len(self.product_rows)


def load_texts(
    data_dir: str | Path,
    products: pd.DataFrame,
    encoder: str = ENCODER,
    device: torch.device | str = "cpu",
    weights_hash: str | None = None,
) -> Texts:
    """The embedded windows of every listing's text; those not yet in embeddings/ are computed.

    Raises UserError as `TextEncoder`.
    """
    text_encoder = TextEncoder(encoder, device, weights_hash)
    names_and_descriptions = zip(products["product_name"], products["product_description"], strict=True)
    windows = [text_encoder.windows(name, description) for name, description in names_and_descriptions]
    product_rows = np.repeat(np.arange(len(products)), [len(of_product) for of_product in windows])
    texts = [window for of_product in windows for window in of_product]
    embeddings = cached_embeddings(DataFolder(data_dir).embeddings, texts, text_encoder)
    return Texts(embeddings, product_rows, encoder, text_encoder.weights_hash)


class Batches:
    """Batches (inputs, labels) on `device`; each iteration is one epoch.

    `inputs` is anything that an int64 array indexes: pixels (P, S, S, 3) uint8 or embeddings (W, 50, 768) float16.
    `rows` are the positions in `inputs` that belong to the split; `labels` has the class number of each of them,
    (R,). `transform` is applied to each batch of inputs on the device. Shuffling draws
    from torch's global generator, so a restored random state gives the same order. With several processes, each takes
    an equal part of every batch. A last batch with fewer examples than processes is left out; in a shuffled epoch one
    with fewer than two for each, since batch normalisation cannot train on one.
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
        rank: int = 0,
        world_size: int = 1,
    ):
        self.device = torch.device(device)
        self.inputs = inputs
        self.rows = np.asarray(rows, np.int64)
        self.labels = torch.from_numpy(np.array(labels, np.int64))
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest >= (2 * self.world_size if self.shuffle else self.world_size))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.rows)) if self.shuffle else torch.arange(len(self.rows))
        for chosen in order.split(self.batch_size)[: len(self)]:
            chosen = chosen[self.rank : len(chosen) - len(chosen) % self.world_size : self.world_size]
            with memory_advice(self.batch_size):
                batch = torch.from_numpy(self.inputs[self.rows[chosen.numpy()]]).to(self.device)
                if self.transform is not None:
                    batch = self.transform(batch)
            yield batch, self.labels[chosen].to(self.device)


def mean_embeddings(embeddings, block: int = 1024) -> np.ndarray:
    """Mean (N, 768) float32 over the tokens of each embedded text (N, 50, 768); padding does not count."""
    blocks = []
    for start in range(0, len(embeddings), block):
        tokens = np.asarray(embeddings[start : start + block], np.float32)
        counts = (tokens != 0).any(axis=2).sum(axis=1, keepdims=True)
        blocks.append(tokens.sum(axis=1) / np.maximum(counts, 1))
    return np.concatenate(blocks)


def product_embeddings(texts: Texts, products: int) -> np.ndarray:
    """Mean embedding (N, 768) of each of N products, over its windows."""
    return mean_per_product(mean_embeddings(texts.embeddings), texts.product_rows, products)
