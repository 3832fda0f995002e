"""The logits of trained networks for texts and photos."""

import numpy as np
import torch
from torch import nn

from marketplace.dataset import Photos, mean_per_product
from models.batches import Batches, Texts
from models.image_model import evaluation_transform
from models.training import evaluate


def text_outputs(model: nn.Module, texts: Texts, device: torch.device) -> np.ndarray:
    """Logits (N, C) float32 of every product: the mean over the windows of its text."""
    logits = _logits(model, texts.embeddings, torch.Tensor.float, device)
    return mean_per_product(logits, texts.product_rows, int(texts.product_rows[-1]) + 1).astype(np.float32)


def photo_outputs(model: nn.Module, photos: Photos, device: torch.device) -> np.ndarray:
    """Logits (P, C) float32 of every photo."""
    return _logits(model, photos.pixels, evaluation_transform, device)


def _logits(model: nn.Module, inputs, transform, device: torch.device) -> np.ndarray:
    count = len(inputs)
    batches = Batches(inputs, np.arange(count), np.zeros(count, np.int64), 128, transform=transform, device=device)
    return evaluate(model.to(device), batches, device)["logits"].numpy()
