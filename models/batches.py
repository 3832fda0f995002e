"""The embedded texts of a data folder, and batches of texts or photos for training and evaluation."""

import math
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
    """The texts of a data folder, embedded; a long one in several windows, which belong to one row of the table."""

    embeddings: TextEmbeddings  # (W, 50, 768) float16, memory-mapped
    product_rows: np.ndarray  # (W,) int64, ascending

    def __len__(self) -> int:
        return len(self.product_rows)

    @classmethod
    def one_each(cls, embeddings) -> "Texts":
        """Embeddings (N, 50, 768) of which each is the only one of its row."""
        return cls(embeddings, np.arange(len(embeddings)))


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


def mean_embeddings(embeddings, block: int = 1024) -> np.ndarray:
    """Mean (N, 768) float32 of the tokens that are there in each embedded text (N, 50, 768)."""
    blocks = []
    for start in range(0, len(embeddings), block):
        tokens = np.asarray(embeddings[start : start + block], np.float32)
        there = (tokens != 0).any(axis=2).sum(axis=1, keepdims=True)
        blocks.append(tokens.sum(axis=1) / np.maximum(there, 1))
    return np.concatenate(blocks)


def product_embeddings(texts: Texts, products: int) -> np.ndarray:
    """Mean (N, 768) of the embedded tokens of each product's windows."""
    return mean_per_product(mean_embeddings(texts.embeddings), texts.product_rows, products)
