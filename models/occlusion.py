"""What a network's answer rests on: how much it falls when a part of the photo, or a word of the text, is hidden.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013, https://arxiv.org/abs/1311.2901,
section 4.2.
"""

import re

import numpy as np
import torch
from scipy.special import logsumexp
from torch import nn

from marketplace.photos import Photos
from models.predict import photo_outputs, text_outputs
from models.text_encoder import TextEncoder, Texts

WORD = re.compile(r"\w+(?:['’-]\w+)*")


def log_odds(logits: np.ndarray, category: int) -> np.ndarray:
    """Log odds (N,) of a category against all others together, from logits (N, C). Unlike a probability they show a
    change when the network is certain, too."""
    return logits[:, category] - logsumexp(np.delete(logits, category, axis=1), axis=1)


def photo_occlusion(model: nn.Module, pixels: np.ndarray, category: int, device: torch.device) -> np.ndarray:
    """How much the log odds of a category fall when a part of a photo, (S, S, 3) uint8, is hidden: (S, S).

    A square of the photo's mean colour with a quarter of its side is moved over it in steps of half a square; a pixel
    has the mean of the squares that cover it.
    """
    size = len(pixels)
    side = max(1, size // 4)
    starts = sorted({*range(0, size - side, max(1, side // 2)), size - side})
    squares = [(slice(top, top + side), slice(left, left + side)) for top in starts for left in starts]
    photos = np.repeat(pixels[None], len(squares) + 1, axis=0)  # the last one stays whole
    for photo, square in zip(photos, squares, strict=False):
        photo[square] = pixels.mean(axis=(0, 1))
    names = [str(number) for number in range(len(photos))]
    logits = photo_outputs(model, Photos(photos, names, np.arange(len(photos)), {}), device)
    odds = log_odds(logits, category)
    falls, covered = np.zeros((size, size)), np.zeros((size, size))
    for square, fall in zip(squares, odds[-1] - odds[:-1], strict=True):
        falls[square] += fall
        covered[square] += 1
    return falls / covered


def word_occlusion(
    model: nn.Module, encoder: TextEncoder, name: str, description: str, category: int, device: torch.device
) -> dict[str, float]:
    """How much the log odds of a category fall without each word of a listing, in the order of the words.

    A word is left out wherever it stands, in small or in capital letters, and the rest is embedded anew.
    """
    words = list(dict.fromkeys(word.lower() for word in WORD.findall(f"{name} {description}")))
    left_out = [re.compile(rf"(?<![\w'’-]){re.escape(word)}(?![\w'’-])", re.IGNORECASE) for word in words]
    variants = [(pattern.sub("", name), pattern.sub("", description)) for pattern in left_out]
    windows = [encoder.windows(*variant) for variant in [*variants, (name, description)]]
    rows = np.repeat(np.arange(len(windows)), [len(of_variant) for of_variant in windows])
    embeddings = encoder.encode([window for of_variant in windows for window in of_variant])
    odds = log_odds(text_outputs(model, Texts(embeddings, rows), device), category)
    return dict(zip(words, (odds[-1] - odds[:-1]).tolist(), strict=True))
