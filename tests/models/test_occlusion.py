"""What an answer rests on: the part of a photo, and the words, without which its log odds fall."""

import numpy as np
import pytest
import torch
from scipy.special import logit, softmax
from torch import Tensor, nn

from models.networks import evaluation_transform
from models.occlusion import log_odds, photo_occlusion, word_occlusion
from models.text_encoder import TextEncoder

CPU = torch.device("cpu")


class BrightCorner(nn.Module):
    """Logits (N, 2), of which the second is the brightness of the lower right corner."""

    def forward(self, image: Tensor) -> Tensor:
        corner = image[:, :, -8:, -8:].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(corner), corner], 1)


class Reader(nn.Module):
    """Logits (N, 2), of which the second is the similarity of the embedded text to a known one."""

    def __init__(self, known: np.ndarray):
        super().__init__()
        self.known = torch.from_numpy(known).float().mean(1)  # (1, 768)

    def forward(self, text: Tensor) -> Tensor:
        similarity = 10 * nn.functional.cosine_similarity(text.mean(1), self.known)
        return torch.stack([torch.zeros_like(similarity), similarity], 1)


def test_log_odds_are_those_of_the_probability():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -3.0, 4.0]])
    assert log_odds(logits, 2) == pytest.approx(logit(softmax(logits, axis=1)[:, 2]))
    assert np.isfinite(log_odds(np.array([[0.0, 800.0]]), 1)).all()


@pytest.mark.parametrize("size", [32, 30, 5])
def test_the_part_of_a_photo_that_the_answer_rests_on(size):
    pixels = np.full((size, size, 3), 20, np.uint8)
    pixels[-8:, -8:] = 240
    before = pixels.copy()
    falls = photo_occlusion(BrightCorner(), pixels, 1, CPU)
    assert falls.shape == (size, size) and np.array_equal(pixels, before)
    if size > 8:
        assert np.unravel_index(falls.argmax(), falls.shape) > (size - 9, size - 9)
        assert falls[: size // 2, : size // 2] == pytest.approx(0, abs=1e-6)
        assert falls == pytest.approx(-photo_occlusion(BrightCorner(), pixels, 0, CPU), abs=1e-6)
        hidden = pixels.copy()
        hidden[-(size // 4) :, -(size // 4) :] = pixels.mean((0, 1))
        whole, without = (
            BrightCorner()(evaluation_transform(torch.from_numpy(photo[None])))[0, 1] for photo in (pixels, hidden)
        )
        assert falls[-1, -1] == pytest.approx(float(whole - without), abs=1e-4)


def test_the_words_that_the_answer_rests_on():
    encoder = TextEncoder()
    model = Reader(encoder.encode(["bicycle"]))
    falls = word_occlusion(model, encoder, "Red bicycle", "A BICYCLE for the shed. Bicycle-clips too", 1, CPU)
    assert list(falls) == ["red", "bicycle", "a", "for", "the", "shed", "bicycle-clips", "too"]
    assert max(falls, key=falls.get) == "bicycle"  # left out of name and description, but not out of another word
    assert word_occlusion(model, encoder, "Bicycle", "", 1, CPU).keys() == {"bicycle"}
